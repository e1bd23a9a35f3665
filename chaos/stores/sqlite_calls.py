"""Calls on a connection's thread that are waited for to their end, and SQLite's errors in our words."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import aiosqlite

from chaos.errors import StoreUnavailable

Value = str | int | float | bytes | None
Parameters = Sequence[Value]
Row = tuple[Any, ...]
Result = TypeVar("Result")

NAME = "sqlite"
_AGAIN_AFTER_S = 0.005


class ConstraintViolated(StoreUnavailable):
    """A statement broke a constraint; the transaction it belonged to is rolled back."""


def unavailable(error: Exception) -> StoreUnavailable:
    """Return what `error` of SQLite, or of a closed connection, means: the statement had no effect."""
    code = getattr(error, "sqlite_errorname", type(error).__name__)
    kind = ConstraintViolated if isinstance(error, sqlite3.IntegrityError) else StoreUnavailable
    return kind(NAME, f"{code}: {error}")


async def ended(work: Awaitable[Result]) -> tuple[asyncio.Task[Result], asyncio.CancelledError | None]:
    """Wait for the end of `work` even when cancelled meanwhile; return it, and the last cancellation.

    A function handed to a connection's thread runs whether or not somebody waits for it, so leaving early
    would only hide what it did.
    """
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancellation = error
    return task, cancellation


async def to_the_end(work: Awaitable[Result]) -> Result:
    """Await `work` to its end; a cancellation is raised afterwards, with the error of `work` as its cause."""
    task, cancellation = await ended(work)
    if cancellation is not None:
        raise cancellation from (None if task.cancelled() else task.exception())
    return task.result()


async def stop(connection: aiosqlite.Connection, task: asyncio.Task[Any]) -> None:
    """Interrupt the statement that `task` stands for until it is over; what came of it is dropped.

    An interrupt that comes before the connection's thread has begun the statement is without effect, so one is not
    enough; and one that comes after its end might hit the statement of the next user, so none is sent then.
    """
    while not task.done():
        with suppress(ValueError):
            await connection.interrupt()
        await asyncio.wait({task}, timeout=_AGAIN_AFTER_S)
    if not task.cancelled():
        task.exception()
