"""Answers of queries and of a cache on real stores: right with our coordinator, and seen to be wrong with others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest

from chaos.history.model import Read, StoreImage
from chaos.transactions.naive import NaiveSystem
from chaos.transactions.redo import RedoSystem
from chaos.transactions.system import Committed, Request
from chaos.workload import Cached, Queries
from chaos.workload.base import UnitOfWork
from chaos.workload.queries import PATTERNS

from .conftest import Place, converged

pytestmark = [pytest.mark.requires("redis"), pytest.mark.timeout(120)]


def asking(token: str, mark: str) -> Request:
    """Return the transaction of one pattern."""
    return Request(token=token, deadline_s=10.0, spec={"pattern": mark.partition(":")[0], "mark": mark})


def caching(token: str, what: str, key: int = 0) -> Request:
    """Return a reader or a writer of the cache."""
    return Request(token=token, deadline_s=10.0, spec={"what": what, "key": key, "mark": f"{what}:{key}"})


async def interrupted(place: Place, kind: Any, slow: Request, meanwhile: Sequence[Request]) -> tuple[Any, list[Read]]:
    """Let `slow` read, then all of `meanwhile` happen, then let `slow` go on; return the system and what it was told."""
    has_read, may_go_on = asyncio.Event(), asyncio.Event()

    async def hook(name: str, token: str | None, _: str | None) -> None:
        if name == "buffered" and token == slow.token and not has_read.is_set():
            has_read.set()
            await may_go_on.wait()

    await place.set_up(kind)
    system = await place.open(kind, hook)
    task = asyncio.create_task(system.transact(slow))
    await has_read.wait()
    for request in meanwhile:
        assert isinstance(await system.transact(request), Committed)
    may_go_on.set()
    outcome = await task
    assert isinstance(outcome, Committed), outcome
    return system, list(outcome.reads)


def broken(images: Mapping[str, StoreImage]) -> list[str]:
    """Return what breaks a rule in any store."""
    return [sentence for image in images.values() for sentence in image.broken or []]


async def test_all_patterns_are_answered_rightly_under_concurrency(place: Place) -> None:
    """Sixty transactions of all patterns, six at a time: no answer differs from the model's."""
    place.workload = Queries(keys=6, batch=3)  # type: ignore[assignment]  # any workload does
    await place.set_up()
    system = await place.open()
    rng = Random(5)
    drawn = [place.workload.draw(rng, f"t{number}", 0, number) for number in range(60)]
    assert {spec["pattern"] for spec in drawn} == set(PATTERNS)
    requests = [Request(token=f"t{number}", deadline_s=20.0, spec=spec) for number, spec in enumerate(drawn)]
    for first in range(0, 60, 6):
        outcomes = await asyncio.gather(*(system.transact(request) for request in requests[first : first + 6]))
        assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes
    images = await converged(system)
    assert broken(images) == []
    assert all(len(image.marks) == 60 for image in images.values())


@pytest.mark.parametrize(
    ("question", "writer"),
    [
        ("sqlite.aggregate:0", "sqlite.bulk:1"),
        ("graph.path:0:2", "graph.create:1:5"),
        ("redis.pipeline:0", "redis.set:1"),
    ],
)
async def test_an_answer_of_another_moment_is_seen(place: Place, question: str, writer: str) -> None:
    """The control lets a transaction commit with an answer that is over; ours asks again."""
    place.workload = Queries(keys=6, batch=3)  # type: ignore[assignment]  # any workload does
    slow, fast = asking("slow", question), asking("fast", writer)
    system, _ = await interrupted(place, NaiveSystem, slow, [fast])
    found = broken(await system.read_back())
    assert len(found) == 3, found  # each store tells the same
    assert all(sentence.startswith(f"slow asked {question} and was answered") for sentence in found)


@pytest.mark.parametrize(("question", "writer"), [("sqlite.aggregate:0", "sqlite.bulk:1")])
async def test_the_same_moment_is_asked_again_by_ours(place: Place, question: str, writer: str) -> None:
    """The transaction that was overtaken is run anew, and its answer is right."""
    place.workload = Queries(keys=6, batch=3)  # type: ignore[assignment]  # any workload does
    system, _ = await interrupted(place, RedoSystem, asking("slow", question), [asking("fast", writer)])
    assert broken(await converged(system)) == []


class Forgetful(Queries):
    """Loses a row of every answer that has more than one, as a wrong join would."""

    async def _ask(self, txn: UnitOfWork, pattern: str, person: int, others: list[int]) -> Any:
        return list(await super()._ask(txn, pattern, person, others))[1:]


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_a_missing_row_is_seen(place: Place, pattern: str) -> None:
    """One row less in the answer of any pattern breaks the rule in every store."""
    place.workload = Queries(keys=6, batch=3)  # type: ignore[assignment]  # any workload does
    await place.set_up()
    system = await place.open()
    mark = {"graph.path": f"{pattern}:1:2", "graph.create": f"{pattern}:1:3"}.get(pattern, f"{pattern}:1")
    assert isinstance(await system.transact(asking("right", mark)), Committed)
    assert broken(await converged(system)) == []
    system._workload = Forgetful(keys=6, batch=3)
    assert isinstance(await system.transact(asking("wrong", mark)), Committed)
    assert len(broken(await converged(system))) == 3


async def test_lost_and_doubled_data_are_seen(place: Place) -> None:
    """Data that no query has asked for is compared as well."""
    place.workload = Queries(keys=6, batch=3)  # type: ignore[assignment]  # any workload does
    await place.set_up(NaiveSystem)
    system = await place.open(NaiveSystem)
    async with system._stores.sqlite.write() as transaction:
        await transaction.execute("DELETE FROM orders WHERE person = 2")
        await transaction.commit()
    await system._stores.redis.execute("HINCRBY", "profile:1", "count", 1)
    await system._stores.graph.write([("MATCH (:Citizen {id: 0})-[f:FOLLOWS]->(:Citizen) DELETE f", {})])
    nouns = sorted(sentence.partition(":")[0] for sentence in broken(await system.read_back()))
    assert nouns == ["orders", "profiles", "relationships"]


@pytest.mark.parametrize("on_write", ["invalidate", "through"])
async def test_a_late_fill_makes_the_cache_of_the_control_stale(place: Place, on_write: Any) -> None:
    """A reader has missed and read the row; a writer overwrites it; the reader fills with what is over."""
    place.workload = Cached(keys=2, on_write=on_write)  # type: ignore[assignment]  # any workload does
    system, _ = await interrupted(place, NaiveSystem, caching("slow", "read"), [caching("writer", "write")])
    images = await system.read_back()
    assert broken(images) == ["the cache holds item 0 of nobody, and its last writer was writer"]
    told = (await system.transact(caching("next", "read"))).reads
    assert told == [Read("redis", "0", [], whole=False)]  # the writer itself might be the one who asks


@pytest.mark.parametrize("on_write", ["invalidate", "through"])
async def test_a_late_fill_reads_again_with_ours(place: Place, on_write: Any) -> None:
    """The reader that was overtaken is run anew, and is told the newer row; so is whoever asks next."""
    place.workload = Cached(keys=2, on_write=on_write)  # type: ignore[assignment]  # any workload does
    system, reads = await interrupted(place, RedoSystem, caching("slow", "read"), [caching("writer", "write")])
    assert [read.writers for read in reads] == [["writer"]]
    assert broken(await converged(system)) == []
    told = (await system.transact(caching("next", "read"))).reads
    assert told == [Read("redis", "0", ["writer"], whole=False)]
