"""The application: what is asked of it, and what it answers. There is nothing that writes.

GET  /v1/services     services, aliases, features in order
POST /v1/features     features of a service, in its order
POST /v1/similar      users of the highest cosine to a user or a vector
POST /v1/encode       the vector of a user by raw events
POST /v1/scores       what a task's promoted model predicts
GET  /health /metrics /docs /openapi.json
"""

import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from contracts.base.errors import FootpathError, TransientError
from contracts.config.dataset import dataset_names
from contracts.config.sources import is_enabled
from orchestration.http import reading
from orchestration.http.answers import Refusal, answer, refuse
from orchestration.http.guard import Guard
from orchestration.http.metrics import metrics
from orchestration.http.page import page_of
from orchestration.http.questions import FeaturesOf, HistoryOf, Like, ScoresOf
from orchestration.http.served import ServedDataset
from orchestration.http.settings import HOSTS, Settings
from orchestration.http.tokens import Caller, Tokens, read_tokens
from orchestration.production.own_pages import names_of

LOG = logging.getLogger("footpath.serve")
TOKENS_GONE = "the file of tokens cannot be read: those of before hold"


class Service:
    """The data sets and tokens of one process, and the thread that looks after them.

    Args:
      settings: of the service.

    Raises:
      FootpathError: the tokens cannot be read, or there is no such data set.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self._stop = settings, threading.Event()
        self.tokens = read_tokens(Path(settings.tokens)) if settings.tokens else None
        self.token_fault = ""
        self._datasets = {name: ServedDataset(name) for name in self._wanted()}

    def dataset(self, name: str) -> ServedDataset:
        """A data set.

        Raises:
          Refusal: it is not served.
        """
        if name not in self._datasets:
            raise Refusal(404, f"there is no data set '{name}' here")
        return self._datasets[name]

    @property
    def datasets(self) -> Mapping[str, ServedDataset]:
        """All data sets by name."""
        return self._datasets

    def refresh(self) -> None:
        """Opens what has changed: data sets that were enabled, registries, tokens."""
        if not self.settings.datasets:
            new = {n: ServedDataset(n) for n in self._wanted() if n not in self._datasets}
            self._datasets = self._datasets | new
        for served in self._datasets.values():
            served.refresh()
        if self.settings.tokens:
            try:
                self.tokens, self.token_fault = read_tokens(Path(self.settings.tokens)), ""
            except FootpathError as error:  # those that were read before hold
                if not self.token_fault:
                    LOG.error("%s", error)  # noqa: TRY400 - it is a sentence
                self.token_fault = TOKENS_GONE

    def flush(self) -> None:
        """Writes the counts of reads."""
        for served in self._datasets.values():
            served.flush()

    def look_after(self) -> None:
        """Refreshes and flushes, until it is told to stop."""
        since = 0.0
        while not self._stop.wait(self.settings.refresh_seconds):
            try:
                self.refresh()
            except Exception:  # such as a YAML that is being written: the next look is soon
                LOG.exception("the data sets could not be looked after")
            since += self.settings.refresh_seconds
            if since >= self.settings.flush_seconds:
                since = 0.0
                self.flush()

    @contextlib.asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Opens everything, looks after it while the app runs, and writes the counts in the end."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = self.settings.threads
        await anyio.to_thread.run_sync(self.refresh)
        thread = threading.Thread(target=self.look_after, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            await anyio.to_thread.run_sync(thread.join)
            await anyio.to_thread.run_sync(self.flush)

    def _wanted(self) -> list[str]:
        return [*self.settings.datasets] or [name for name in dataset_names() if is_enabled(name)]


def create_app(settings: Settings | None = None) -> Guard:
    """Makes the application; the settings are those of this process, unless they are given."""
    settings = settings or Settings.handed()
    service = Service(settings)
    app = FastAPI(
        title="Footpath",
        description="Features, embeddings, similar users and predictions. Read-only.",
        lifespan=service.running,
        docs_url=None,  # Feast's and FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
    )
    _answer_errors(app)
    _add_reads(app, service)
    _add_pages(app, service)

    def tokens() -> Tokens | None:
        return service.tokens

    paths = frozenset(path for route in app.routes if (path := getattr(route, "path", "")))
    return Guard(app, names_of(HOSTS), tokens, paths)


def _caller(request: Request) -> Caller:
    return request.state.caller


WhoAsks = Annotated[Caller, Depends(_caller)]


def _add_reads(app: FastAPI, service: Service) -> None:
    """The endpoints that read. They are plain functions: each runs in a thread."""

    @app.get("/v1/services")
    def services(caller: WhoAsks) -> Response:
        """The services that the token gives: aliases, features in order, tags, last day."""
        return answer(reading.services(service.datasets, caller))

    @app.post("/v1/features")
    def features(asked: FeaturesOf, caller: WhoAsks) -> Response:
        """Features of users, or items, in the order of the service, with the times they are of."""
        return answer(reading.features(service.dataset(asked.dataset), caller, asked))

    @app.post("/v1/similar")
    def similar(asked: Like, caller: WhoAsks) -> Response:
        """Users most like a user, or like a vector, by cosine; filters keep some users."""
        return answer(reading.similar(service.dataset(asked.dataset), caller, asked))

    @app.post("/v1/encode")
    def encode(asked: HistoryOf, caller: WhoAsks) -> Response:
        """The vector of a user by their raw events, made as the daily embedding is made."""
        return answer(reading.encode(service.dataset(asked.dataset), caller, asked))

    @app.post("/v1/scores")
    def scores(asked: ScoresOf, caller: WhoAsks) -> Response:
        """What the promoted model of a task predicts of users, or of one by raw events."""
        return answer(reading.scores(service.dataset(asked.dataset), caller, asked))


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    def health() -> Response:
        """Whether the service is well; 503 while no data set could be opened."""
        faults = [served.fault for served in service.datasets.values() if served.fault]
        faults += [service.token_fault] if service.token_fault else []
        is_up = not service.datasets or any(d.is_open for d in service.datasets.values())
        status = "ok" if not faults else "degraded"
        return answer({"status": status, "faults": faults}, 200 if is_up else 503)

    @app.get("/metrics")
    def prometheus() -> Response:
        """Metrics of all processes, as Prometheus reads them."""
        return metrics()

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return page_of(app.openapi())


def _answer_errors(app: FastAPI) -> None:
    """Every error is one sentence of JSON; what is unforeseen goes to the log alone."""

    @app.exception_handler(Refusal)
    def refused(_: Request, error: Refusal) -> Response:
        return refuse(error.status, error.sentence)

    @app.exception_handler(TransientError)
    def gone(_: Request, error: TransientError) -> Response:
        return refuse(503, str(error), {"retry-after": "1"})

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        faults = [
            f"{'.'.join(map(str, fault['loc'][1:])) or 'body'}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()[:5]
        ]
        return refuse(422, "; ".join(faults))

    @app.exception_handler(HTTPException)
    def unknown(_: Request, error: HTTPException) -> Response:
        said = {404: "there is nothing here: see /docs", 405: "this is asked in another way"}
        return refuse(error.status_code, said.get(error.status_code, str(error.detail)))

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> Response:
        LOG.error("%s failed", request.url.path, exc_info=error)
        return refuse(500, "the service has failed at this; its log says why")
