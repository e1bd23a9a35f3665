"""Conflicts by granules, against a slow and simple definition of them."""

from __future__ import annotations

from random import Random

import pytest

from chaos.transactions import cypher
from chaos.transactions.granules import (
    Prefix,
    Read,
    Write,
    between,
    comparable,
    key_read,
    key_written,
    overlap,
    point,
    row,
    same_row,
    table,
)
from chaos.transactions.window import Window


def drawn_read(rng: Random) -> Read:
    """Draw a granule of reading."""
    kinds = [
        lambda: table(rng.choice("tu")),
        lambda: point(rng.choice("tu"), rng.choice("ab"), rng.randrange(4)),
        lambda: between(rng.choice("tu"), "a", rng.choice([None, 1]), rng.choice([None, 2])),
        lambda: key_read(rng.choice(["x:1", "x:2", "y:1"])),
        lambda: Prefix(rng.choice(["x:", "y"])),
    ]
    return rng.choice(kinds)()


def drawn_write(rng: Random) -> Write:
    """Draw a granule of writing."""
    kinds = [
        lambda: table(rng.choice("tu")),
        lambda: row(rng.choice("tu"), {"a": rng.randrange(4), "b": rng.randrange(4)}),
        lambda: row(rng.choice("tu"), {rng.choice("ab"): rng.randrange(4)}),
        lambda: key_written(rng.choice(["x:1", "x:2", "y:1"])),
    ]
    return rng.choices(kinds, [1, 6, 6, 6])[0]()


@pytest.mark.parametrize("seed", range(40))
def test_the_window_finds_exactly_what_a_search_finds(seed: int) -> None:
    """For every snapshot within the window, a conflict is found when some later commit overlaps, and only then."""
    rng = Random(seed)
    window = Window(commits_max=15)
    commits: list[tuple[int, list[Write]]] = []
    csn = 0
    for _ in range(60):
        csn += rng.randrange(1, 3)
        writes = [drawn_write(rng) for _ in range(rng.randrange(3))]
        window.add(csn, writes)
        commits.append((csn, writes))
        for since in range(max(0, window.oldest), csn + 1):
            later = [one for number, some in commits if number > since for one in some]
            read, mine = drawn_read(rng), drawn_write(rng)
            assert (window.read_meanwhile([read], since) is not None) == any(overlap(read, one) for one in later)
            assert (window.written_meanwhile([mine], since) is not None) == any(same_row(mine, one) for one in later)


def test_what_is_forgotten_makes_older_snapshots_too_old() -> None:
    """The window remembers so many commits, and says from where on."""
    window = Window(commits_max=2)
    for csn in (1, 2, 3):
        window.add(csn, [key_written("a")])
    assert window.oldest == 1


@pytest.mark.parametrize(("one", "other"), [(3, 3.0), (3, "3"), ("a", "A"), ("a", "a "), (b"a", "a")])
def test_what_sqlite_may_take_for_equal_is_equal(one: object, other: object) -> None:
    """A column's affinity and collation decide in SQLite; a granule errs on the side of a conflict."""
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(
    ("text", "read", "written"),
    [
        ("MATCH (a:Account)-[s:SENT]->(b:Account) RETURN count(*), sum(s.amount)", {"account", "sent"}, None),
        ("MATCH (a)-[]->(b) RETURN a", None, None),
        ("MATCH (a:User)-[:KNOWS|LIKES*1..3]->(b:User) RETURN b", {"user", "knows", "likes"}, None),
        ("MATCH (a:User)-->(b:User) RETURN b", None, None),
        ("MATCH (a:A {id: $x}), (b:A {id: $y}) CREATE (a)-[:S {m: 'x:Y'}]->(b)", {"a", "s"}, {"s"}),
        ("CREATE (:User {id: $id})", {"user"}, {"user"}),
        ("MATCH (u:User {id: $i}) SET u.n = 3", {"user"}, {"user"}),
        ("MATCH (u:User {id: $i}) DETACH DELETE u", {"user"}, None),
        ("MATCH (t:T) WHERE (t.id = 1 OR t.x = 2) RETURN count(t)", {"t"}, None),
    ],
)
def test_labels_of_cypher(text: str, read: set[str] | None, written: set[str] | None) -> None:
    """Labels are told from the words; a pattern without one may mean any."""

    def labels(granules: tuple[Read, ...] | tuple[Write, ...], wildcard: str) -> set[str] | None:
        names = {granule.place.removeprefix("graph:") for granule in granules}
        return None if names <= {"*", "!"} and wildcard in names else names - {"*", "!"}

    assert labels(cypher.reads(text), "*") == read
    assert labels(cypher.writes(text), "!") == written
