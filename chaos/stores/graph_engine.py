"""One adapter over the embedded graph engines that share an interface: kuzu and ladybug.

Used only inside the graph child. What the engines need, and why:
- `buffer_pool_size` and `max_db_size` are given, since the defaults take 80 % of the memory and map 8 TB.
- `auto_checkpoint=False`: kuzu's automatic checkpoint can make a durable COMMIT report an error.
- One Database, and one Connection that writes, one transaction at a time: after a BEGIN that failed because another
  writer was open, the next statement on that connection ends the process with a segmentation fault in both engines.
- Readers have connections of their own, which are closed after any error: an error inside a transaction ends it
  without a word, and the next statement would read the newest state, as if the snapshot had moved.
- A connection is used by one thread at a time; different ones may run at once.
- ladybug opens with `throw_on_wal_replay_failure=False`: otherwise a torn last transaction, which was never
  acknowledged, makes the whole database unreadable.
- A parameter that is not given is checked here: kuzu then matches all rows.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ENGINES = ("kuzu", "ladybug")
Statement = tuple[str, Mapping[str, Any]]

_MEGABYTE = 1024 * 1024
_PARAMETER = re.compile(r"\$(\w+)")
_NO_CODE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`|//[^\n]*|/\*.*?\*/""", re.DOTALL)
_FORBIDDEN = re.compile(
    r"(?<![.:$])\b(?:BEGIN|COMMIT|ROLLBACK|CHECKPOINT|CREATE|MERGE|SET|DELETE|DETACH|REMOVE|DROP|ALTER|COPY|INSERT|"
    r"INSTALL|ATTACH|IMPORT|EXPORT)\b",
    re.IGNORECASE,
)


class CommitFailed(Exception):
    """COMMIT itself raised; whether the transaction is durable is not known."""


class GraphReader:
    """A connection that only reads; used by one thread at a time. Any RuntimeError leaves it fit for `close` only."""

    def __init__(self, connection: Any) -> None:
        """Take over a connection on which nothing was run."""
        self._connection = connection

    def run(self, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        """Run one reading statement and return its rows.

        Raises ValueError, and runs nothing, when a parameter is missing or when the statement would write or end
        a transaction.
        """
        clause = forbidden_clause(cypher)
        if clause is not None:
            raise ValueError(f"{clause} is not for readers: {cypher!r}")
        return _run(self._connection, cypher, parameters)

    def begin(self) -> None:
        """Begin a read-only transaction: what follows sees the state of this moment. After an error only `close`."""
        _run(self._connection, "BEGIN TRANSACTION READ ONLY", {})

    def end(self) -> None:
        """End it. After an error only `close` is allowed, which ends it as well."""
        _run(self._connection, "COMMIT", {})

    def close(self) -> None:
        """Close the connection; an open transaction ends with it."""
        self._connection.close()


class GraphEngine:
    """An open database file and the connection that writes. Any exception leaves it unfit for further use."""

    def __init__(self, name: str, path: Path, *, buffer_pool_mb: int, max_db_size_mb: int) -> None:
        """Open or create `path` with the engine `name`. Raises what the engine raises."""
        if name not in ENGINES:
            raise ValueError(f"engine={name!r} must be one of {', '.join(ENGINES)}")
        self.checkpoint_waits = name == "kuzu"
        self._module = importlib.import_module(name)
        options: dict[str, Any] = {"throw_on_wal_replay_failure": False} if name == "ladybug" else {}
        self._database = self._module.Database(
            str(path),
            buffer_pool_size=buffer_pool_mb * _MEGABYTE,
            max_db_size=max_db_size_mb * _MEGABYTE,
            max_num_threads=2,
            auto_checkpoint=False,
            **options,
        )
        self._connection = self._module.Connection(self._database)

    def run(self, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        """Run one statement and return its rows. Raises ValueError when a parameter is missing."""
        return _run(self._connection, cypher, parameters)

    def connect(self) -> GraphReader:
        """Return a new connection for reading; costs some KB and no thread. It must be closed before the database."""
        return GraphReader(self._module.Connection(self._database))

    def transact(self, statements: Sequence[Statement]) -> None:
        """Run `statements` in one transaction.

        Raises CommitFailed when COMMIT raised, else what the engine raised; the transaction is gone then, and
        its rollback is not to be trusted: end the process.
        """
        self.run("BEGIN TRANSACTION", {})
        for cypher, parameters in statements:
            self.run(cypher, parameters)
        try:
            self.run("COMMIT", {})
        except RuntimeError as error:
            raise CommitFailed(str(error)) from error

    def census(self) -> dict[str, int]:
        """Return how many nodes or relationships each table holds."""
        found = {}
        for name, kind in self.run("CALL show_tables() RETURN name, type", {}):
            pattern = f"(n:`{name}`)" if kind == "NODE" else f"()-[n:`{name}`]->()"
            [(found[name],)] = self.run(f"MATCH {pattern} RETURN count(*)", {})
        return found

    def checkpoint(self) -> None:
        """Move the log into the database file.

        No transaction may be open, not even a reader's where `checkpoint_waits`: kuzu stalls for seconds, then fails.
        """
        self.run("CHECKPOINT", {})

    def close(self) -> None:
        """Close the connection and the database, which checkpoints."""
        self._connection.close()
        self._database.close()


def forbidden_clause(cypher: str) -> str | None:
    """Return the first word in `cypher` that is not for readers; None when there is none.

    Strings, quoted names and comments do not count. A reader that wrote would break into the only writer's
    transaction, and one that ended its own transaction would leave the next one without a snapshot.
    """
    match = _FORBIDDEN.search(_NO_CODE.sub(" ", cypher))
    return match[0].upper() if match else None


def _run(connection: Any, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
    missing = set(_PARAMETER.findall(cypher)) - set(parameters)
    if missing:
        raise ValueError(f"parameters {sorted(missing)} of {cypher!r} are missing")
    result = connection.execute(cypher, dict(parameters)) if parameters else connection.execute(cypher)
    try:
        return [list(row) for row in result.get_all()]
    finally:
        result.close()
