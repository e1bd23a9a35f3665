"""HTTP/1.1 on a connection: requests in, answers out. h11 does the framing, asyncio the waiting.

Whatever a client sends or fails to send, it ends at most its own connection, within the times below.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

import h11

from chaos import __version__
from chaos.faults.network.api.handlers import Answer
from chaos.faults.network.api.router import BadTarget, Router

IDLE_TIMEOUT_S = 60.0
"""How long a connection may wait for its next request."""

READ_TIMEOUT_S = 15.0
"""How long a request may take to arrive, from its first byte to its last."""

WRITE_TIMEOUT_S = 30.0
"""How long a client may take to read an answer."""

HEAD_BYTES_MAX = 1024 * 1024
"""The longest request line and headers; more is answered with 431."""

BODY_BYTES_MAX = 1024 * 1024
"""The longest body, some thousand proxies for populate; more is answered with 413."""

_READ_BYTES = 64 * 1024
_LINGER_S = 0.5
_VERSIONS = (b"1.0", b"1.1")
_SERVER = f"chaos-harness/{__version__}".encode()
_TEXT = "text/plain; charset=utf-8"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Refused(Exception):
    """A request that is not served; the connection ends with the answer."""

    status: HTTPStatus


class HttpServer:
    """The connections of clients of the API."""

    def __init__(self, router: Router) -> None:
        """Have `router` answer."""
        self._router = router
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, listener: socket.socket) -> None:
        """Serve on a socket that listens."""
        self._server = await asyncio.start_server(self._serve, sock=listener)

    async def close(self) -> None:
        """Stop listening and end every connection. Idempotent."""
        if self._server is not None:
            self._server.close()
        clients = dict(self._clients)
        for task, writer in clients.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = writer
        client = _Client(reader, writer, self._router)
        try:
            with contextlib.suppress(OSError, TimeoutError, h11.LocalProtocolError, asyncio.CancelledError):
                while await client.exchange():
                    pass
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                await client.close()
        except Exception:  # a defect of ours: this connection ends and no other
            log.exception("the API ended a connection")
        finally:
            self._clients.pop(task, None)
            writer.transport.abort()


class _Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, router: Router) -> None:
        self._reader = reader
        self._writer = writer
        self._router = router
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)

    async def exchange(self) -> bool:
        """Answer one request; False when the connection has ended, or is to end."""
        try:
            request = await self._request()
            if request is None:
                return False
            body = await self._body()
            answer = await self._answer(request, body)
        except h11.RemoteProtocolError as error:
            return await self._refuse(HTTPStatus(error.error_status_hint))
        except _Refused as error:
            return await self._refuse(error.status)
        await self._send(answer, with_body=request.method != b"HEAD")
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def close(self) -> None:
        """Close in order, which waits until the client has read. Raises TimeoutError when it does not."""
        self._writer.close()
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._writer.wait_closed()

    async def _request(self) -> h11.Request | None:
        """Wait for a request and read its head; None when the client leaves instead."""
        self._deadline_s = asyncio.get_running_loop().time() + IDLE_TIMEOUT_S
        event = await self._event(begins=True)
        if not isinstance(event, h11.Request):
            return None
        if event.http_version not in _VERSIONS:
            raise _Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        return event

    async def _body(self) -> bytes:
        chunks: list[bytes] = []
        size_bytes = 0
        while isinstance(event := await self._event(), h11.Data):
            size_bytes += len(event.data)
            if size_bytes > BODY_BYTES_MAX:
                raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            chunks.append(bytes(event.data))
        return b"".join(chunks)

    async def _answer(self, request: h11.Request, body: bytes) -> Answer:
        agents = [value for name, value in request.headers if name == b"user-agent"]
        agent = agents[0].decode("latin-1") if agents else ""
        method, target = request.method.decode("ascii"), request.target.decode("latin-1")
        try:
            return await self._router.answer(method, target, agent, body)
        except BadTarget as error:
            raise _Refused(HTTPStatus.BAD_REQUEST) from error

    async def _event(self, *, begins: bool = False) -> object:
        """Return h11's next event. Raises TimeoutError, and h11.RemoteProtocolError for what is not HTTP.

        With `begins` the time of a request is counted from its first byte.
        """
        loop = asyncio.get_running_loop()
        if begins and self._http.trailing_data[0]:
            begins, self._deadline_s = False, loop.time() + READ_TIMEOUT_S
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            async with asyncio.timeout_at(self._deadline_s):
                data = await self._reader.read(_READ_BYTES)
            if begins and data:
                begins, self._deadline_s = False, loop.time() + READ_TIMEOUT_S
            self._http.receive_data(data)
        return event

    async def _refuse(self, status: HTTPStatus) -> bool:
        """Answer a request that is not served, as Go does, and have the connection end."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"{status.value} {status.phrase}".encode()
            await self._send(Answer(status, text, _TEXT, {"Connection": "close"}), with_body=True)
            await self._linger()
        return False

    async def _linger(self) -> None:
        """Throw away what the client still sends, for a moment: closing now would reset the answer away."""
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while await self._reader.read(_READ_BYTES):
                    pass

    async def _send(self, answer: Answer, *, with_body: bool) -> None:
        own = answer.headers or {}
        headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in own.items()]
        headers += [(b"Date", formatdate(usegmt=True).encode()), (b"Server", _SERVER)]
        if answer.content_type is not None:
            headers.append((b"Content-Type", answer.content_type.encode()))
        if answer.status != HTTPStatus.NO_CONTENT:
            headers.append((b"Content-Length", str(len(answer.body)).encode()))
        head = h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase.encode())
        parts = [self._http.send(head)]
        if answer.body and with_body:
            parts.append(self._http.send(h11.Data(data=answer.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        await self._write(b"".join(part for part in parts if part))

    async def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._writer.drain()
            except TimeoutError:
                self._writer.transport.abort()
                raise
