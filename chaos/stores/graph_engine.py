"""One adapter over the embedded graph engines that share an interface: kuzu and ladybug.

Used only inside the graph child. What the engines need, and why:
- `buffer_pool_size` and `max_db_size` are given, since the defaults take 80 % of the memory and map 8 TB.
- `auto_checkpoint=False`: kuzu's automatic checkpoint can make a durable COMMIT report an error.
- One Database, one Connection, one transaction at a time: after a BEGIN that failed because another writer was
  open, the next statement on that connection ends the process with a segmentation fault in both engines.
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


class CommitFailed(Exception):
    """COMMIT itself raised; whether the transaction is durable is not known."""


class GraphEngine:
    """An open database file and its single connection. Any exception leaves it unfit for further use."""

    def __init__(self, name: str, path: Path, *, buffer_pool_mb: int, max_db_size_mb: int) -> None:
        """Open or create `path` with the engine `name`. Raises what the engine raises."""
        if name not in ENGINES:
            raise ValueError(f"engine={name!r} must be one of {', '.join(ENGINES)}")
        module = importlib.import_module(name)
        options: dict[str, Any] = {"throw_on_wal_replay_failure": False} if name == "ladybug" else {}
        self._database = module.Database(
            str(path),
            buffer_pool_size=buffer_pool_mb * _MEGABYTE,
            max_db_size=max_db_size_mb * _MEGABYTE,
            max_num_threads=2,
            auto_checkpoint=False,
            **options,
        )
        self._connection = module.Connection(self._database)

    def run(self, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        """Run one statement and return its rows. Raises ValueError when a parameter is missing."""
        missing = set(_PARAMETER.findall(cypher)) - set(parameters)
        if missing:
            raise ValueError(f"parameters {sorted(missing)} of {cypher!r} are missing")
        result = self._connection.execute(cypher, dict(parameters)) if parameters else self._connection.execute(cypher)
        try:
            return [list(row) for row in result.get_all()]
        finally:
            result.close()

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
        """Move the log into the database file. No transaction may be open."""
        self.run("CHECKPOINT", {})

    def close(self) -> None:
        """Close the connection and the database, which checkpoints."""
        self._connection.close()
        self._database.close()
