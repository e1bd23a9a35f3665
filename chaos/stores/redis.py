"""Redis through redis-py, without a single hidden retry, and with errors that say what is known.

redis-py 8 re-sends commands, scripts and whole transactions up to ten times by default when a client is built
from a host name; a lost reply then counts twice. Here every connection has an explicit policy of no retries,
timeouts shorter than a transaction's deadline, and a pool that waits only briefly. WATCH and `transaction()`
are not offered: they turn a lost EXEC reply into "conflict" and run the block again.

A request is written by hand on a connection from our own pool, because only so can "never sent" be told from "sent,
but the reply was lost". A connection on which a reply may still come is closed, never lent again.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, ResponseError

from chaos.errors import StoreInDoubt, StoreUnavailable
from chaos.stores.pool import Pool, Trade
from chaos.stores.pool_model import Lease, PoolReport, PoolSettings

_NAME = "redis"
Argument = str | int | bytes


def _cancellations() -> int:
    """Return how often the current task was asked to stop.

    redis-py sends inside `asyncio.wait_for`, which before Python 3.12 drops a cancellation that arrives in the
    moment when the work is done. The task would then go on for ever, and a deadline would never end it; so the
    number is compared before and after.
    """
    task = asyncio.current_task()
    return task.cancelling() if task else 0


class Script:
    """A Lua script that is sent by its digest, and in full when the server does not know it (restart, flush)."""

    def __init__(self, text: str) -> None:
        """Compute the digest that EVALSHA wants: SHA-1 of the text, in hexadecimal."""
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _sound(connection: Any) -> bool:
    """Tell whether a connection is open and nothing waits to be read on it: an unread reply is somebody else's."""
    reader = connection._reader  # noqa: SLF001  # the library asks the same, but only in coroutines
    if not connection.is_connected or reader is None:
        return False
    return not (reader.at_eof() or reader.exception() or reader._buffer)  # noqa: SLF001  # there is no public way


async def _close(connection: Any) -> None:
    await connection.disconnect(nowait=True)


async def _never(_: Any) -> bool:
    return False


class RedisStore:
    """One server. `connections` bounds how many requests are under way; further ones wait for a connection."""

    name = _NAME

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float = 0.5,
        connections: int = 8,
        pool: PoolSettings | None = None,
    ) -> None:
        """Keep the address; connections are made when needed. `timeout_s` bounds connect, send, each reply.

        pool: how connections are shared, instead of `connections` of them.
        """
        self._timeout_s = timeout_s
        self._settings: dict[str, Any] = {
            "host": host,
            "port": port,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "protocol": 2,
            "decode_responses": True,
        }
        default = PoolSettings(max_size=connections, growth=connections, acquire_timeout_s=2 * timeout_s)
        trade = Trade(make=self._make, close=_close, check=self._check, clean=_never, sound=_sound)
        self._pool: Pool[Any] = Pool("redis.connections", pool or default, trade)
        self._reserved = False

    def commit_path(self) -> RedisStore:
        """Return a client of the same server and pool that may also have the reserved connections, and goes first.

        Closing it closes nothing.
        """
        other = copy.copy(self)
        vars(other)["_reserved"] = True
        return other

    async def open(self) -> None:
        """Make the pool's `min_size` connections now. Raises StoreUnavailable. Without it they come when needed."""
        await self._pool.open()

    def pools(self) -> list[PoolReport]:
        """Return the state of the pool."""
        return [self._pool.report()]

    async def execute(self, *arguments: Argument) -> Any:
        """Send one command once and return its reply (text decoded).

        Raises StoreUnavailable when it was never sent or was refused, StoreInDoubt when it was sent and no
        whole reply came. Cancellation: the connection is dropped; the command may still take effect.
        """
        async with self._lend() as lease:
            try:
                return await self._round_trip(lease.item, arguments)
            except ResponseError as error:
                raise StoreUnavailable(_NAME, f"{arguments[0]!s} was refused: {error}") from error

    async def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send `commands` in one piece and return their replies in order; they are not one transaction.

        An error reply stands as a ResponseError in its place. Raises as `execute`; in doubt is then each of them.
        """
        async with self._lend() as lease:
            connection = lease.item
            packed = connection.pack_commands([list(command) for command in commands])
            return await self._talk(connection, f"a pipeline of {len(commands)}", packed, len(commands))

    async def evaluate(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run `script` atomically on the server, at most once. Errors as for `execute`."""
        tail = (str(len(keys)), *keys, *arguments)
        async with self._lend() as lease:
            connection = lease.item
            try:
                try:
                    return await self._round_trip(connection, ("EVALSHA", script.digest, *tail))
                except NoScriptError:
                    # A definite refusal: nothing ran, so sending the text is not a second attempt.
                    return await self._round_trip(connection, ("EVAL", script.text, *tail))
            except ResponseError as error:
                raise StoreUnavailable(_NAME, f"script was refused: {error}") from error

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        if not self._reserved:
            await self._pool.close()

    def _lend(self) -> AbstractAsyncContextManager[Lease[Any]]:
        if self._pool.is_new:
            self._pool.start()
        return self._pool.lend(reserved=self._reserved)

    async def _make(self) -> Any:
        """Connect. Raises StoreUnavailable."""
        connection = Connection(**self._settings)
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's decorator
        except (RedisError, OSError) as error:  # OSError covers TimeoutError
            await _close(connection)
            raise StoreUnavailable(_NAME, f"no connection: {type(error).__name__}: {error}") from error
        except BaseException:
            await _close(connection)
            raise
        return connection

    async def _check(self, connection: Any) -> bool:
        return bool(await self._round_trip(connection, ("PING",)) == "PONG")

    async def _round_trip(self, connection: Any, arguments: Sequence[Argument]) -> Any:
        [reply] = await self._talk(connection, str(arguments[0]), connection.pack_command(*arguments), 1)
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def _talk(self, connection: Any, what: str, packed: Any, count: int) -> list[Any]:
        """Send packed commands and read `count` replies, an error reply in its place."""
        try:
            before = _cancellations()
            await connection.send_packed_command(packed, check_health=False)
            if _cancellations() > before:
                raise asyncio.CancelledError
            return [await self._reply(connection) for _ in range(count)]
        except (RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, BusyLoadingError):
                raise StoreUnavailable(_NAME, f"the server is loading its data: {error}") from error
            text = f"{what} was sent, then {type(error).__name__}: {error}"
            raise StoreInDoubt(_NAME, text) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def _reply(self, connection: Any) -> Any:
        try:
            return await connection.read_response()
        except ResponseError as error:
            return error
