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
- kuzu never forgets a statement that it has prepared, and prepares one for each call with parameters: 8 KB each. So
  each connection prepares a text once for each set of types, and runs that again. ladybug does so by itself.
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


_PREPARED_MAX = 512


class CommitFailed(Exception):
    """COMMIT itself raised; whether the transaction is durable is not known."""


class GraphReader:
    """A connection that only reads; used by one thread at a time. Any RuntimeError leaves it fit for `close` only."""

    def __init__(self, session: _Session) -> None:
        """Take over a connection on which nothing was run."""
        self._session = session

    def run(self, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        """Run one reading statement and return its rows.

        Raises ValueError, and runs nothing, when a parameter is missing or when the statement would write or end
        a transaction.
        """
        clause = forbidden_clause(cypher)
        if clause is not None:
            raise ValueError(f"{clause} is not for readers: {cypher!r}")
        return self._session.run(cypher, parameters)

    def begin(self) -> None:
        """Begin a read-only transaction: what follows sees the state of this moment. After an error only `close`."""
        self._session.run("BEGIN TRANSACTION READ ONLY", {})

    def end(self) -> None:
        """End it. After an error only `close` is allowed, which ends it as well."""
        self._session.run("COMMIT", {})

    def close(self) -> None:
        """Close the connection; an open transaction ends with it."""
        self._session.close()


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
        self._session = _Session(self._module, self._database)

    def run(self, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        """Run one statement and return its rows. Raises ValueError when a parameter is missing."""
        return self._session.run(cypher, parameters)

    def connect(self) -> GraphReader:
        """Return a new connection for reading; costs some KB and no thread. It must be closed before the database."""
        return GraphReader(_Session(self._module, self._database))

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
        self._session.close()
        self._database.close()


def forbidden_clause(cypher: str) -> str | None:
    """Return the first word in `cypher` that is not for readers; None when there is none.

    Strings, quoted names and comments do not count. A reader that wrote would break into the only writer's
    transaction, and one that ended its own transaction would leave the next one without a snapshot.
    """
    match = _FORBIDDEN.search(_NO_CODE.sub(" ", cypher))
    return match[0].upper() if match else None


class _Session:
    """A connection, with the statements that it may run again without preparing them anew."""

    def __init__(self, module: Any, database: Any) -> None:
        """Connect to an open database of the engine `module`."""
        self._connection = module.Connection(database)
        self._prepare = module.PreparedStatement if module.__name__ == "kuzu" else None
        self._prepared: dict[tuple[str, Any], Any] = {}

    def run(self, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        """Run one statement and return its rows. Raises ValueError when a parameter is missing."""
        missing = set(_PARAMETER.findall(cypher)) - set(parameters)
        if missing:
            raise ValueError(f"parameters {sorted(missing)} of {cypher!r} are missing")
        result = self._execute(cypher, dict(parameters)) if parameters else self._connection.execute(cypher)
        try:
            return [list(row) for row in result.get_all()]
        finally:
            result.close()

    def close(self) -> None:
        """Close the connection."""
        self._prepared.clear()
        self._connection.close()

    def _execute(self, cypher: str, parameters: dict[str, Any]) -> Any:
        if self._prepare is None:
            return self._connection.execute(cypher, parameters)
        key = (cypher, _kind(parameters))
        statement = self._prepared.get(key) or self._prepare(self._connection, cypher, parameters)
        result = self._connection.execute(statement, parameters)
        if len(self._prepared) >= _PREPARED_MAX:
            self._prepared.clear()
        self._prepared[key] = statement
        return result


def _kind(value: Any) -> Any:
    """Return what a statement must be prepared anew for: the type of a value, and those of all that is in it."""
    if isinstance(value, list | tuple):
        return list, frozenset(map(_kind, value))
    if isinstance(value, Mapping):
        return dict, tuple((name, _kind(one)) for name, one in value.items())
    return type(value)
