"""SQLite by itself, in every journal mode and at every level of `synchronous`.

Besides rows that are only added there are slots that are overwritten, so that a page which loses its newest content
shows, and a cache of few pages, so that large transactions spill into the files before they commit. The `-shm` file
is shared memory that SQLite rebuilds when it opens the database: it is in no state.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from chaos.crashpoints.judge import Observation
from chaos.crashpoints.promises import Promise, Teller
from chaos.crashpoints.targets import entries
from chaos.crashpoints.targets.base import BuiltIn, text_of

_SLOTS = 5
_SCHEMA = (
    "CREATE TABLE entry(txn INTEGER NOT NULL, part INTEGER NOT NULL, payload TEXT NOT NULL)",
    "CREATE INDEX entry_by_txn ON entry(txn)",
    "CREATE TABLE slot(id INTEGER PRIMARY KEY, txn INTEGER NOT NULL, filler TEXT NOT NULL)",
    "CREATE TABLE counter(value INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (1)",
)
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SQLiteTarget(BuiltIn):
    """One database file and one connection."""

    name: ClassVar[str] = "sqlite"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "journal": ("wal", "delete", "truncate", "persist", "memory", "off"),
        "synchronous": ("full", "extra", "normal", "off"),
        "transactions": (),
    }
    ignored: tuple[str, ...] = ("*-shm",)
    batch: int = 64
    thorough_every: int = 2

    def demand(self) -> None:
        """SQLite is part of Python."""

    def preload(self, folder: Path) -> None:
        """Let the library set itself up once."""
        sqlite3.connect(":memory:").close()
        for number in range(self.count + 2):
            entries.rows(number)

    def work(self, data: Path, teller: Teller) -> None:
        """Create, commit, roll back, checkpoint in the middle, commit on, close."""
        with self._opened(data) as connection:
            self._set_journal(connection)
            teller.begin(entries.SCHEMA)
            self._create(connection)
            teller.acknowledged(entries.SCHEMA)
            for number in range(1, self.count + 1):
                if number == self.count // 2:
                    teller.phase("checkpoint")
                    self.attempt(lambda: connection.execute("PRAGMA wal_checkpoint(PASSIVE)"))
                    teller.phase("after the checkpoint")
                self.attempt(functools.partial(self._transact, connection, number, teller))
            teller.phase("close")

    def recover(self, data: Path, teller: Teller) -> None:
        """Recover, write one more transaction, close."""
        with self._opened(data) as connection:
            self._set_journal(connection)
            seen = self._look(connection)
            if not seen.found:
                teller.begin(entries.SCHEMA)
                self._create(connection)
                teller.acknowledged(entries.SCHEMA)
            number = entries.next_number(seen)
            teller.begin(str(number))
            self._write(connection, number)
            connection.execute("COMMIT")
            teller.acknowledged(str(number))

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Look, write one more transaction, open again and look once more."""
        try:
            with self._opened(data) as connection:
                connection.execute("PRAGMA cache_size=500")
                seen = self._look(connection)
                if seen.problems or seen.partial or not seen.found or not thorough:
                    return seen
                stuck = self._go_on(connection, seen)
            return seen if stuck is None else _stuck(seen, stuck)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                return Observation(problems=(text_of(error),))
            return Observation(refused=text_of(error))

    def _go_on(self, connection: sqlite3.Connection, seen: Observation) -> str | None:
        number = entries.next_number(seen)
        try:
            self._set_journal(connection)
            self._write(connection, number)
            connection.execute("COMMIT")
            again = self._look(connection)
        except sqlite3.Error as error:
            return text_of(error)
        if again.problems or again.partial or set(again.found) != {*seen.found, str(number)}:
            return f"after writing {number}: {'; '.join(again.problems) or again.partial or sorted(again.found)}"
        return None

    @contextmanager
    def _opened(self, data: Path) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(data / "main.db", isolation_level=None, timeout=0.0)
        try:
            connection.execute("PRAGMA cache_size=6")
            connection.execute("PRAGMA mmap_size=0")
            connection.execute(f"PRAGMA synchronous={self.options['synchronous']}")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            yield connection
        finally:
            connection.close()

    def _set_journal(self, connection: sqlite3.Connection) -> None:
        wanted = self.options["journal"]
        [(answer,)] = connection.execute(f"PRAGMA journal_mode={wanted}").fetchall()
        if answer != wanted:
            raise sqlite3.OperationalError(f"journal_mode={answer} after asking for {wanted}")

    @staticmethod
    def _create(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")

    def _transact(self, connection: sqlite3.Connection, number: int, teller: Teller) -> None:
        if connection.in_transaction:  # a step before has failed
            connection.execute("ROLLBACK")
        teller.begin(str(number))
        self._write(connection, number)
        if entries.is_given_up(number):
            connection.execute("ROLLBACK")
            teller.aborted(str(number))
        else:
            connection.execute("COMMIT")
            teller.acknowledged(str(number))

    @staticmethod
    def _write(connection: sqlite3.Connection, number: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO entry VALUES (?, ?, ?)", entries.rows(number))
        connection.execute("INSERT OR REPLACE INTO slot VALUES (?, ?, ?)", (number % _SLOTS, number, _filler(number)))
        connection.execute("UPDATE counter SET value = value + 1")

    @staticmethod
    def _look(connection: sqlite3.Connection) -> Observation:
        """Read everything twice, by scan and by index. A database without the schema holds nothing."""
        problems = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return Observation(problems=tuple(problems))
        if tables != {"entry", "slot", "counter"}:
            return Observation(problems=(*problems, f"only the tables {sorted(tables)}"))
        counters = [value for (value,) in connection.execute("SELECT value FROM counter")]
        if len(counters) != 1:
            problems.append(f"{len(counters)} counters")
        found = connection.execute("SELECT txn, part, payload FROM entry NOT INDEXED").fetchall()
        seen = entries.sorted_out(found, counters[0] if counters else None, problems)
        return _with_slots(connection, seen)


def _with_slots(connection: sqlite3.Connection, seen: Observation) -> Observation:
    """Compare the index and the slots with the rows that a scan has found."""
    numbers = sorted(int(name) for name in seen.found if name != entries.SCHEMA)
    problems = list(seen.problems)
    counts = connection.execute("SELECT txn, count(*) FROM entry INDEXED BY entry_by_txn GROUP BY txn")
    indexed = dict(counts.fetchall())
    for number in numbers:
        if indexed.get(number) != len(entries.rows(number)):
            count = indexed.get(number, 0)
            problems.append(f"the index finds {count} rows of {number}, and the scan {len(entries.rows(number))}")
    expected = {number % _SLOTS: (number, _filler(number)) for number in numbers}
    slots = {number: (txn, filler) for number, txn, filler in connection.execute("SELECT id, txn, filler FROM slot")}
    if slots != expected and not seen.partial:
        held = {number: txn for number, (txn, _) in sorted(slots.items())}
        problems.append(f"the slots hold {held}, and not { ({n: txn for n, (txn, _) in sorted(expected.items())}) }")
    return Observation(found=seen.found, partial=seen.partial, counter=seen.counter, problems=tuple(problems))


@functools.cache
def _filler(number: int) -> str:
    return f"{number:04d}" * 250


def _stuck(seen: Observation, why: str) -> Observation:
    return Observation(found=seen.found, counter=seen.counter, stuck=why)
