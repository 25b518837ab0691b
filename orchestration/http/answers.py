"""What the service answers: JSON, and a refusal as one sentence."""

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response


class Refusal(Exception):  # noqa: N818 - it is no fault of the service
    """A request that is not answered.

    Args:
      status: of HTTP.
      sentence: what the caller may read; no path of this machine stands in it.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response; what is no number is null."""
    body = to_json(value, inf_nan_mode="null")
    return Response(body, status, headers, media_type="application/json")


def refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal as JSON."""
    return answer({"error": sentence}, status, headers)
