"""Validation inside one batch: who reads is compared with all that were accepted before it, whoever they were."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from chaos.transactions.footprint import Footprint, Validation
from chaos.transactions.granules import key_read, key_written
from chaos.transactions.tokens import Tokens
from chaos.transactions.window import Window


def unit(*, reads: str = "", writes: str, since: int | None = None, isolation: str = "serializable") -> Any:
    """Return what validation looks at of a transaction; keys have one letter each."""
    written = tuple(key_written(key) for key in writes)
    foot = Footprint(since, frozenset(key_read(key) for key in reads), written, written)
    return SimpleNamespace(footprint=foot, isolation=isolation)


def test_a_reader_meets_those_that_came_before_it_in_its_batch() -> None:
    """Blind writers pass unseen, and are remembered all the same when the first reader comes, and the next one."""
    validation = Validation(Window())
    for blind in (unit(writes="a"), unit(writes="b")):
        assert validation.check(blind) is None
        validation.accept(blind)
    assert validation.check(unit(reads="b", writes="x", since=7)) is not None
    harmless = unit(reads="c", writes="d", since=7)
    assert validation.check(harmless) is None
    validation.accept(harmless)
    assert validation.check(unit(reads="d", writes="x", since=7)) is not None
    assert validation.check(unit(reads="a", writes="x", since=7)) is not None


def test_what_was_not_accepted_is_in_nobodys_way() -> None:
    """A transaction that was refused has written nothing."""
    validation = Validation(Window())
    assert validation.check(unit(writes="a")) is None
    assert validation.check(unit(reads="a", writes="x", since=7)) is None


def test_under_snapshot_isolation_only_the_same_row_counts() -> None:
    """Who overwrites what another one of the batch has written is refused; who has read it is not."""
    validation = Validation(Window())
    validation.accept(unit(writes="a"))
    assert validation.check(unit(reads="a", writes="x", since=7, isolation="snapshot")) is None
    assert validation.check(unit(reads="x", writes="a", since=7, isolation="snapshot")) is not None


async def test_whoever_waits_for_a_token_is_told_when_its_last_holder_lets_go() -> None:
    """Two wait for two tokens; each is woken by its own, and one that is never released is not idle."""
    tokens = Tokens()
    for token in ("a", "a", "b", "never"):
        tokens.hold(token)
    waiting = {token: asyncio.create_task(tokens.idle(token, 20.0)) for token in ("a", "b")}
    await asyncio.sleep(0)
    tokens.release("a")
    tokens.release("b")
    assert await waiting["b"]
    assert not waiting["a"].done()
    tokens.release("a")
    assert await waiting["a"]
    assert not await tokens.idle("never", 0.01)
