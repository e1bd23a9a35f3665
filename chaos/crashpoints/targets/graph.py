"""The embedded graph engines, kuzu and ladybug, each by itself.

Each transaction adds nodes with a primary key and edges between them, and moves a counter, which is the node with
the key 0. A checkpoint runs in the
middle and when the database is closed; automatic ones are off, so that the log of operations shows where they are.
The engines crash, hang and take all the memory there is over a damaged file, so only processes with limits open one. An
engine keeps nothing from one database to the next, so a process looks at several states until one of them harms it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from chaos.crashpoints.judge import Observation
from chaos.crashpoints.promises import Promise, Teller
from chaos.crashpoints.targets import entries
from chaos.crashpoints.targets.base import BuiltIn, text_of
from chaos.errors import EnvironmentUnavailable

_MEGABYTE = 1024 * 1024
_FACTOR = 100
_TABLES = {"Entry", "Next"}
_SCHEMA = (
    "CREATE NODE TABLE IF NOT EXISTS Entry(id INT64, txn INT64, part INT64, payload STRING, PRIMARY KEY(id))",
    "CREATE REL TABLE IF NOT EXISTS Next(FROM Entry TO Entry, txn INT64)",
    "MERGE (e:Entry {id: 0}) ON CREATE SET e.txn = 0, e.part = 1",
)
_ENTRY = "CREATE (:Entry {id: $id, txn: $txn, part: $part, payload: $payload})"
_EDGE = "MATCH (a:Entry {id: $source}), (b:Entry {id: $target}) CREATE (a)-[:Next {txn: $txn}]->(b)"


class _Engine:
    """An open database; closing it checkpoints."""

    def __init__(self, module: Any, path: Path, options: Mapping[str, Any]) -> None:
        self._database = module.Database(
            str(path),
            buffer_pool_size=32 * _MEGABYTE,
            max_db_size=256 * _MEGABYTE,
            max_num_threads=1,
            auto_checkpoint=False,
            **options,
        )
        self._connection = module.Connection(self._database)

    def run(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> list[list[Any]]:
        """Run one statement and return its rows."""
        result = self._connection.execute(cypher, dict(parameters or {}))
        try:
            return [list(row) for row in result.get_all()]
        finally:
            result.close()

    def only_look(self) -> None:
        """Close without a checkpoint from now on: it takes three times as long as opening and reading together."""
        self.run("CALL force_checkpoint_on_close = false")

    def close(self) -> None:
        """Close the connection, then the database."""
        self._connection.close()
        self._database.close()


class GraphTarget(BuiltIn):
    """What both engines have in common."""

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"transactions": ()}
    default_count: ClassVar[int] = 12
    thorough_every: int = 32
    batch: int = 32
    memory_bytes: int | None = 6 * 1024 * _MEGABYTE

    def demand(self) -> None:
        """Raise EnvironmentUnavailable when the engine is not installed."""
        if importlib.util.find_spec(self.name) is None:
            raise EnvironmentUnavailable(f"{self.name} is not installed", f"pip install {self.name}")

    def preload(self, folder: Path) -> None:
        """Import the engine and let it do everything once, in memory: its first query costs ten times the second.

        Its threads end with the database, which is gone when this returns.
        """
        engine = self._open(Path(":memory:"))
        for statement in _SCHEMA:
            engine.run(statement)
        for number in (1, 2):
            _write(engine, number)
            engine.run("COMMIT")
        _look(engine)
        engine.close()

    def work(self, data: Path, teller: Teller) -> None:
        """Create, commit, checkpoint in the middle, commit on, close."""
        engine = self._open(data)
        teller.begin(entries.SCHEMA)
        for statement in _SCHEMA:
            engine.run(statement)
        teller.acknowledged(entries.SCHEMA)
        for number in range(1, self.count + 1):
            if number == self.count // 2:
                teller.phase("checkpoint")
                self.attempt(lambda: engine.run("CHECKPOINT"))
                teller.phase("after the checkpoint")
            if not entries.is_given_up(number):
                self.attempt(functools.partial(_transact, engine, number, teller))
        teller.phase("close")
        self.attempt(engine.close)

    def recover(self, data: Path, teller: Teller) -> None:
        """Recover, write one more transaction, close."""
        engine = self._open(data)
        seen = _look(engine)
        if not seen.found:
            teller.begin(entries.SCHEMA)
            for statement in _SCHEMA:
                engine.run(statement)
            teller.acknowledged(entries.SCHEMA)
        _transact(engine, entries.next_number(seen), teller)
        teller.phase("close")
        engine.close()

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Look, write one more transaction, close, open again and look once more."""
        try:
            engine = self._open(data)
        except Exception as error:  # noqa: BLE001  # engines raise RuntimeError, MemoryError, IndexError and others
            return Observation(refused=text_of(error))
        try:
            if not thorough:
                engine.only_look()
            seen = _look(engine)
        except Exception as error:  # noqa: BLE001  # as above
            return Observation(problems=(f"reading: {text_of(error)}",))
        if seen.problems or seen.partial or not seen.found or not thorough:
            return seen
        stuck = self._go_on(engine, data, seen)
        return seen if stuck is None else Observation(found=seen.found, counter=seen.counter, stuck=stuck)

    def _go_on(self, engine: _Engine, data: Path, seen: Observation) -> str | None:
        number = entries.next_number(seen)
        step = "writing"
        try:
            _write(engine, number)
            engine.run("COMMIT")
            step = "closing"
            engine.close()
            step = "opening again"
            engine = self._open(data)
            step = "reading again"
            engine.only_look()
            again = _look(engine)
        except Exception as error:  # noqa: BLE001  # as above
            return f"{step}: {text_of(error)}"
        if again.problems or again.partial or set(again.found) != {*seen.found, str(number)}:
            return f"after writing {number}: {'; '.join(again.problems) or again.partial or sorted(again.found)}"
        return None

    def _open(self, data: Path) -> _Engine:
        place = data if data.name == ":memory:" else data / "graph.db"
        return _Engine(importlib.import_module(self.name), place, self._settings())

    def _settings(self) -> dict[str, Any]:
        return {}


class KuzuTarget(GraphTarget):
    """kuzu with its default settings."""

    name: ClassVar[str] = "kuzu"


class LadybugTarget(GraphTarget):
    """ladybug. replay: whether an incomplete log is cut back (tolerant, as our adapter has it) or refused (strict)."""

    name: ClassVar[str] = "ladybug"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"replay": ("tolerant", "strict"), "transactions": ()}

    def _settings(self) -> dict[str, Any]:
        return {"throw_on_wal_replay_failure": self.options["replay"] == "strict"}


def _transact(engine: _Engine, number: int, teller: Teller) -> None:
    teller.begin(str(number))
    _write(engine, number)
    engine.run("COMMIT")
    teller.acknowledged(str(number))


def _write(engine: _Engine, number: int) -> None:
    engine.run("BEGIN TRANSACTION")
    for _, part, payload in entries.rows(number):
        engine.run(_ENTRY, {"id": _id(number, part), "txn": number, "part": part, "payload": payload})
    for source, target in _edges(number):
        engine.run(_EDGE, {"source": source, "target": target, "txn": number})
    engine.run("MATCH (e:Entry {id: 0}) SET e.part = e.part + 1")


def _look(engine: _Engine) -> Observation:
    """Read everything by scan, by primary key and along the edges. Missing tables hold nothing."""
    tables = {name for (name,) in engine.run("CALL show_tables() RETURN name")}
    if not tables >= _TABLES:
        return Observation()
    everything = engine.run("MATCH (e:Entry) RETURN e.id, e.txn, e.part, e.payload")
    if not everything:
        return Observation()
    counters = [part for number, _, part, _ in everything if number == 0]
    found = [(txn, part, payload) for number, txn, part, payload in everything if number != 0]
    seen = entries.sorted_out(found, counters[0] if counters else None)
    problems = list(seen.problems)
    problems += [
        f"row {number!r} is of {txn!r}, {part!r}" for number, txn, part, _ in everything if not _fits(number, txn, part)
    ]
    if len(counters) != 1:
        problems.append(f"{len(counters)} counters")
    numbers = sorted(int(name) for name in seen.found if name != entries.SCHEMA)
    problems += _lookups(engine, numbers)
    if not seen.partial:
        problems += _edge_problems(engine, numbers)
    return Observation(found=seen.found, partial=seen.partial, counter=seen.counter, problems=tuple(problems))


def _fits(number: object, txn: object, part: object) -> bool:
    return number == 0 or (isinstance(txn, int) and isinstance(part, int) and number == _id(txn, part))


def _lookups(engine: _Engine, numbers: list[int]) -> list[str]:
    """Look one row of a few transactions up by its key: of the first and last ones, where keys move in the index."""
    problems = []
    for number in sorted({*numbers[:2], *numbers[-3:]}):
        _, part, payload = entries.rows(number)[number % len(entries.rows(number))]
        rows = engine.run("MATCH (e:Entry {id: $id}) RETURN e.txn, e.part, e.payload", {"id": _id(number, part)})
        if rows != [[number, part, payload]]:
            problems.append(f"the key of row {part} of {number} finds {len(rows)} rows or another")
    return problems


def _edge_problems(engine: _Engine, numbers: list[int]) -> list[str]:
    expected = sorted((source, target, number) for number in numbers for source, target in _edges(number))
    edges = engine.run("MATCH (a:Entry)-[r:Next]->(b:Entry) RETURN a.id, b.id, r.txn")
    found = sorted((source, target, number) for source, target, number in edges)
    if found == expected:
        return []
    missing, strange = set(expected) - set(found), set(found) - set(expected)
    return [f"{len(found)} edges and not {len(expected)}: {len(missing)} missing, {len(strange)} that nobody made"]


def _edges(number: int) -> list[tuple[int, int]]:
    count = min(3, len(entries.rows(number)))
    return [(_id(number, part), _id(number, part + 1)) for part in range(count - 1)]


def _id(number: int, part: int) -> int:
    return number * _FACTOR + part
