"""A real server behind a real proxy process, and a client that shows every byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import hiredis

from chaos.backends.redis_server import RedisServer
from chaos.faults.base import STRUCK
from chaos.faults.network.client import ProxyLever, ProxyProcess
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.resp.actions import Action
from chaos.faults.network.resp.on_command import OnCommand

REPLY_S = 10.0


def packed(*words: str | bytes) -> bytes:
    """Return a command as clients send it."""
    return bytes(hiredis.pack_command(words))


@dataclass
class Line:
    """One connection to Redis, without a client library in between."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    decoder: Any = field(default_factory=lambda: hiredis.Reader(notEnoughData=...))
    received: bytes = b""

    async def ask(self, *words: str | bytes) -> Any:
        """Send one command and return its decoded reply; an error reply is returned, not raised."""
        self.writer.write(packed(*words))
        return await self.reply()

    def send(self, *words: str | bytes) -> None:
        """Send one command."""
        self.writer.write(packed(*words))

    async def reply(self) -> Any:
        """Return the next reply. Raises EOFError at end of file, and ConnectionResetError."""
        async with asyncio.timeout(REPLY_S):
            while (decoded := self.decoder.gets()) is ...:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self.received += data
                self.decoder.feed(data)
        return decoded

    async def end(self) -> bytes:
        """Read to end of file and return what came before. Raises ConnectionResetError."""
        async with asyncio.timeout(REPLY_S):
            return await self.reader.read()


async def dialed(stack: AsyncExitStack, port: int) -> Line:
    """Connect to a port of this machine; the stack's end is the connection's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(lambda: writer.transport.abort())  # it also keeps the writer alive
    return Line(reader, writer)


@dataclass
class Near:
    """The server, and a proxy in this very process for what the channel cannot ask; no journal unless it is given one."""

    server: RedisServer
    proxy: Proxy
    wire: Path
    stack: AsyncExitStack

    async def dial(self) -> Line:
        """Connect through the proxy."""
        return await dialed(self.stack, self.proxy.port)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Return the journal's lines of one kind."""
        return [line for one in self.wire.read_text().splitlines() if (line := json.loads(one))["kind"] == kind]


@dataclass
class Bench:
    """The server, the proxy in front of it, and its journal."""

    server: RedisServer
    proxies: ProxyProcess
    port: int
    wire: Path
    stack: AsyncExitStack
    armed: int = 0
    _direct: Line | None = None

    @property
    def lever(self) -> ProxyLever:
        """The proxy's lever."""
        return self.proxies.lever("redis")

    async def dial(self, *, direct: bool = False, protocol: int = 2) -> Line:
        """Connect through the proxy, or straight to the server."""
        line = await dialed(self.stack, self.server.port if direct else self.port)
        if protocol == 3:
            await line.ask("HELLO", "3")
        return line

    async def server_says(self, *words: str | bytes) -> Any:
        """Ask the server itself, past the proxy."""
        if self._direct is None:
            self._direct = await self.dial(direct=True)
        return await self._direct.ask(*words)

    async def arm(self, command: str, do: Action, **arguments: Any) -> str:
        """Arm a rule and return its id."""
        fault = OnCommand("redis", command, do=do, **arguments)
        assert list(fault.problems()) == []
        fault_id = f"f{self.armed}"
        self.armed += 1
        await self.lever.inject(fault_id, fault.kind, fault.toxic_arguments(Random(0)))
        return fault_id

    async def evidence(self, fault_id: str) -> dict[str, int]:
        """Return what a rule that is armed still has counted so far."""
        return dict((await self.proxies.state())["redis"].faults[fault_id])

    async def until(self, fault_id: str, **counters: int) -> None:
        """Wait until a rule has counted so much."""

        async def counted() -> bool:
            evidence = await self.evidence(fault_id)
            return all(evidence.get(name, 0) >= count for name, count in counters.items())

        await eventually(counted)

    async def heal(self, fault_id: str) -> dict[str, int]:
        """Disarm a rule and return what it has counted."""
        return {name: count for name, count in (await self.lever.heal(fault_id)).items() if name != STRUCK}

    def lines(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the journal's lines, of one kind."""
        found = [json.loads(line) for line in self.wire.read_text().splitlines()]
        return [line for line in found if kind is None or line["kind"] == kind]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask until the answer is True; fail after ten seconds."""
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.002)
