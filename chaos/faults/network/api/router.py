"""From a method and a target to an answer: routes, the guard against browsers, errors, and the time limit."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import posixpath
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import quote, unquote_to_bytes

from chaos.faults.network.api.encoding import encode
from chaos.faults.network.api.failure import ApiError
from chaos.faults.network.api.handlers import Answer, Handlers

HANDLER_TIMEOUT_S = 25.0
"""After this the client gets 503; what it asked for goes on, as in Toxiproxy."""

REQUEST_ID = "X-Toxiproxy-Request-Id"

_TEXT = "text/plain; charset=utf-8"
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_TIMEOUT_PAGE = b"<html><head><title>Timeout</title></head><body><h1>Timeout</h1></body></html>"
_SAFE_IN_PATHS = "/$&+,:;=@!*'()~"
_XID_ALPHABET = "0123456789abcdefghijklmnopqrstuv"

log = logging.getLogger(__name__)

Endpoint = Callable[..., Awaitable[Answer]]


class BadTarget(ValueError):
    """A request target that is no path."""


class Router:
    """Answers requests. It never raises but for a target that cannot be read."""

    def __init__(self, handlers: Handlers) -> None:
        """Send requests to `handlers`."""
        self._metrics = handlers.metrics
        update, update_toxic = handlers.update, handlers.update_toxic
        self._routes: list[tuple[tuple[str, ...], Mapping[str, Endpoint]]] = [
            (("reset",), {"POST": handlers.reset}),
            (("proxies",), {"GET": handlers.index, "POST": handlers.create}),
            (("populate",), {"POST": handlers.populate}),
            (("proxies", "*"), {"GET": handlers.show, "POST": update, "PATCH": update, "DELETE": handlers.remove}),
            (("proxies", "*", "toxics"), {"GET": handlers.toxics, "POST": handlers.add_toxic}),
            (
                ("proxies", "*", "toxics", "*"),
                {
                    "GET": handlers.toxic,
                    "POST": update_toxic,
                    "PATCH": update_toxic,
                    "DELETE": handlers.remove_toxic,
                },
            ),
            (("version",), {"GET": handlers.version}),
        ]
        self._counter = itertools.count()
        self._running: set[asyncio.Task[Answer]] = set()

    async def answer(self, method: str, target: str, user_agent: str, body: bytes) -> Answer:
        """Answer one request. Raises BadTarget."""
        path, query = _path(target)
        clean = _cleaned(path)
        if clean != path:
            location = quote(clean, safe=_SAFE_IN_PATHS, errors="surrogateescape") + query
            return Answer(HTTPStatus.MOVED_PERMANENTLY, headers={"Location": location})
        found = self._route(method, path)
        if isinstance(found, Answer):
            return found
        endpoint, arguments = found
        if user_agent.startswith("Mozilla/"):
            answer = Answer(HTTPStatus.FORBIDDEN, b"User agent not allowed\n", _TEXT, _NO_SNIFF)
        else:
            answer = await self._within_time(endpoint(body, *arguments))
        headers = {**(answer.headers or {}), REQUEST_ID: self._request_id()}
        return Answer(answer.status, answer.body, answer.content_type, headers)

    def _route(self, method: str, path: str) -> tuple[Endpoint, list[str]] | Answer:
        segments = path.removeprefix("/").split("/")
        if segments == ["metrics"]:
            return self._metrics, []
        for pattern, endpoints in self._routes:
            pairs = list(zip(pattern, segments, strict=False))
            if len(pattern) != len(segments) or any(
                not segment or part not in ("*", segment) for part, segment in pairs
            ):
                continue
            if method not in endpoints:
                return Answer(HTTPStatus.METHOD_NOT_ALLOWED)
            return endpoints[method], [segment for part, segment in pairs if part == "*"]
        return Answer(HTTPStatus.NOT_FOUND, b"404 page not found\n", _TEXT, _NO_SNIFF)

    async def _within_time(self, work: Awaitable[Answer]) -> Answer:
        task = asyncio.ensure_future(_guarded(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        done, _ = await asyncio.wait({task}, timeout=HANDLER_TIMEOUT_S)
        if not done:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, _TIMEOUT_PAGE, "text/html; charset=utf-8")
        return task.result()

    def _request_id(self) -> str:
        """Return an id in the form of Toxiproxy's: 20 characters for time, process and a counter."""
        number = int(time.time()) << 64 | (os.getpid() & 0xFFFFFFFF) << 32 | next(self._counter) & 0xFFFFFFFF
        number <<= 4  # 96 bits in 20 characters of 5
        return "".join(_XID_ALPHABET[number >> shift & 31] for shift in range(95, -1, -5))


async def _guarded(work: Awaitable[Answer]) -> Answer:
    """Return the answer of a handler, or what it raised as an answer."""
    try:
        return await work
    except ApiError as error:
        status, text = error.status, error.text
    except Exception as error:  # whatever it is: this request fails and no other
        log.exception("the API could not answer a request")
        status, text = HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}"
    document = encode({"error": text, "status": int(status)}) + b"\n"
    return Answer(status, document, _TEXT, _NO_SNIFF)


def _path(target: str) -> tuple[str, str]:
    """Return the decoded path of a request target, and its query with the question mark. Raises BadTarget."""
    for scheme in ("http://", "https://"):
        if target.lower().startswith(scheme):
            rest = target[len(scheme) :]
            target = rest[rest.find("/") :] if "/" in rest else "/"
    path, mark, query = target.partition("?")
    if path != "*" and not path.startswith("/"):
        raise BadTarget(target)
    for escape in path.split("%")[1:]:
        if len(escape) < 2 or not all(digit in "0123456789abcdefABCDEF" for digit in escape[:2]):
            raise BadTarget(target)
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape"), mark + query


def _cleaned(path: str) -> str:
    """Return a path without empty and dotted segments; the slash at its end stays."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean
