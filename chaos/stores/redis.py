"""Redis through redis-py, without a single hidden retry, and with errors that say what is known.

redis-py 8 re-sends commands, scripts and whole transactions up to ten times by default when a client is built
from a host name; a lost reply then counts twice. Here every connection has an explicit policy of no retries,
timeouts shorter than a transaction's deadline, and a pool that waits only briefly. WATCH and `transaction()`
are not offered: they turn a lost EXEC reply into "conflict" and run the block again.

A request is written by hand on a connection taken from the pool, because only so can "never sent" be told
from "sent, but the reply was lost".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, ResponseError

from chaos.errors import StoreInDoubt, StoreUnavailable

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


class RedisStore:
    """One server. `connections` bounds how many requests are under way; further ones wait `timeout_s` at most."""

    name = _NAME

    def __init__(self, host: str, port: int, *, timeout_s: float = 0.5, connections: int = 8) -> None:
        """Keep the address; connections are made when needed. `timeout_s` bounds connect, send, each reply."""
        self._timeout_s = timeout_s
        self._pool = BlockingConnectionPool(
            max_connections=connections,
            timeout=timeout_s,
            host=host,
            port=port,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,
            decode_responses=True,
        )

    async def execute(self, *arguments: Argument) -> Any:
        """Send one command once and return its reply (text decoded).

        Raises StoreUnavailable when it was never sent or was refused, StoreInDoubt when it was sent and no
        whole reply came. Cancellation: the connection is dropped; the command may still take effect.
        """
        connection = await self._connect()
        try:
            return await self._round_trip(connection, arguments)
        except ResponseError as error:
            raise StoreUnavailable(_NAME, f"{arguments[0]!s} was refused: {error}") from error
        finally:
            await asyncio.shield(self._pool.release(connection))

    async def evaluate(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run `script` atomically on the server, at most once. Errors as for `execute`."""
        tail = (str(len(keys)), *keys, *arguments)
        connection = await self._connect()
        try:
            try:
                return await self._round_trip(connection, ("EVALSHA", script.digest, *tail))
            except NoScriptError:
                # A definite refusal: nothing ran, so sending the text is not a second attempt.
                return await self._round_trip(connection, ("EVAL", script.text, *tail))
        except ResponseError as error:
            raise StoreUnavailable(_NAME, f"script was refused: {error}") from error
        finally:
            await asyncio.shield(self._pool.release(connection))

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        await self._pool.aclose()

    async def _connect(self) -> Any:
        before = _cancellations()
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's decorator
        except (RedisError, OSError) as error:  # OSError covers TimeoutError
            raise StoreUnavailable(_NAME, f"no connection: {type(error).__name__}: {error}") from error
        if _cancellations() > before:
            await self._pool.release(connection)
            raise asyncio.CancelledError
        return connection

    async def _round_trip(self, connection: Any, arguments: Sequence[Argument]) -> Any:
        try:
            before = _cancellations()
            await connection.send_command(*arguments, check_health=False)
            if _cancellations() > before:
                raise asyncio.CancelledError
            return await connection.read_response()
        except ResponseError:
            raise
        except (RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, BusyLoadingError):
                raise StoreUnavailable(_NAME, f"the server is loading its data: {error}") from error
            text = f"{arguments[0]!s} was sent, then {type(error).__name__}: {error}"
            raise StoreInDoubt(_NAME, text) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
