"""Who is told, for tests: an HTTP server and a mail server on the loopback that keep what comes."""

import base64
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class WebhookServer(http.server.ThreadingHTTPServer):
    """Keeps each JSON body, and answers as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.bodies: list[dict[str, Any]] = []
        self.asked = 0
        self.status, self.answer, self.headers = 200, b"ok", {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/services/T0/B0/topsecret"

    @property
    def texts(self) -> list[str]:
        """Texts of the messages that were accepted, in Slack's form."""
        return [body["text"] for body in self.bodies]


class _Hook(http.server.BaseHTTPRequestHandler):
    server: WebhookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        if self.server.status < 300:
            assert self.headers["Content-Type"] == "application/json"
            self.server.bodies.append(json.loads(body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None: ...


class MailServer(socketserver.ThreadingTCPServer):
    """As much of SMTP as a client needs; keeps senders, receivers, log-ins and messages."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.mails: list[tuple[str, list[str], str]] = []
        self.logins: list[bytes] = []
        self.refused: set[str] = set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Smtp(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        sender, receivers = "", []
        self._say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            if verb in ("ehlo", "EHLO"):
                self._say("250-here\r\n250 AUTH PLAIN")
            elif verb.upper() == "AUTH":
                self.server.logins.append(base64.b64decode(rest.split()[1]))
                self._say("235 welcome")
            elif verb.upper() == "MAIL":
                sender, receivers = line.split("<")[1].split(">")[0], []
                self._say("250 ok")
            elif verb.upper() == "RCPT":
                receiver = line.split("<")[1].split(">")[0]
                refused = receiver in self.server.refused
                receivers += [] if refused else [receiver]
                self._say("550 topsecret is unknown" if refused else "250 ok")
            elif verb.upper() == "DATA":
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                text = b"".join(part.removeprefix(b".") for part in lines).decode()
                self.server.mails.append((sender, receivers, text))
                self._say("250 taken")
            elif verb.upper() == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Serves in a thread until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
