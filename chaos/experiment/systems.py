"""Which coordinator is under test: ours, the naive control, or a class of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from chaos._declare import Declared
from chaos.errors import Problem


@dataclass(frozen=True)
class SystemSpec(Declared):
    """Base of the systems that an experiment can name.

    Class attribute `phases`: every phase that the system reports, so that a schedule with a misspelt one is
    refused; None when any name is allowed, since only the system itself knows.
    """

    phases: ClassVar[frozenset[str] | None] = None

    def location(self, source: Path) -> str:
        """Return "module:Class" or "/absolute/file.py:Class", as the worker process loads it.

        `source` is the experiment's file, against which relative paths are read.
        """
        raise NotImplementedError

    def to_config(self) -> dict[str, Any]:
        """Return its settings as plain JSON values; the worker finds them as options["system"]. Empty: none."""
        return {}


_COORDINATED = frozenset(
    {
        "begin",
        "buffered",
        "queued",
        "sqlite.begun",
        "sqlite.committing",
        "sqlite.committed",
        "redis.applying",
        "redis.applied",
        "graph.applying",
        "graph.applied",
        "applied",
        "acknowledged",
        "recovering",
        "recovered",
        "redis.rebuilding",
        "redis.rebuilt",
        "graph.rebuilding",
        "graph.rebuilt",
        "redis.copying",
        "redis.copied",
        "graph.copying",
        "graph.copied",
        "log.purging",
        "log.purged",
    }
)

_BASE_EVERY_MAX = 1_000_000


@dataclass(frozen=True)
class Redo(SystemSpec):
    """The write set travels in SQLite's commit, then Redis and the graph follow idempotently.

    isolation: "serializable" or "snapshot", the level of every transaction of the workload.
    base_every: after how many transactions each store is copied anew, so that the rows of the log behind can go; None:
        as the coordinator thinks best, after some thousands.
    """

    phases: ClassVar[frozenset[str] | None] = _COORDINATED

    isolation: str = "serializable"
    base_every: int | None = None

    def location(self, source: Path) -> str:
        """Return the coordinator of this package, at its level of isolation."""
        name = {"snapshot": "SnapshotRedoSystem"}.get(self.isolation, "RedoSystem")
        return f"chaos.transactions.redo:{name}"

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown level of isolation."""
        yield from self.bad_choice("isolation", ("serializable", "snapshot"))
        if self.base_every is not None:
            yield from self.bad_count("base_every", 1, _BASE_EVERY_MAX)

    def to_config(self) -> dict[str, Any]:
        """Return how often bases are made, if that is told."""
        return {} if self.base_every is None else {"base_every": self.base_every}


@dataclass(frozen=True)
class Epoxy(SystemSpec):
    """Redis and the graph have each transaction before SQLite's commit, which makes it visible.

    base_every: as for `Redo`.
    """

    phases: ClassVar[frozenset[str] | None] = _COORDINATED | {
        "redis.purging",
        "redis.purged",
        "graph.purging",
        "graph.purged",
    }

    base_every: int | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a number out of range."""
        if self.base_every is not None:
            yield from self.bad_count("base_every", 1, _BASE_EVERY_MAX)

    def to_config(self) -> dict[str, Any]:
        """Return how often bases are made, if that is told."""
        return {} if self.base_every is None else {"base_every": self.base_every}

    def location(self, source: Path) -> str:
        """Return the coordinator of this package."""
        return "chaos.transactions.epoxy:EpoxySystem"


@dataclass(frozen=True)
class Naive(SystemSpec):
    """Each store commits in turn, with best-effort compensation: the control that must be caught."""

    phases: ClassVar[frozenset[str] | None] = frozenset(
        {
            "begin",
            "buffered",
            "sqlite.committing",
            "sqlite.committed",
            "redis.applying",
            "redis.applied",
            "graph.applying",
            "graph.applied",
            "acknowledged",
            "compensating",
        }
    )

    def location(self, source: Path) -> str:
        """Return the naive coordinator of this package."""
        return "chaos.transactions.naive:NaiveSystem"


@dataclass(frozen=True)
class Own(SystemSpec):
    """A class of the user's own that follows `chaos.transactions.system.System`.

    `name` is "Class", in the experiment's own file, or "path.py:Class", relative to that file's folder.
    """

    name: str

    def location(self, source: Path) -> str:
        """Return "/absolute/file.py:Class"."""
        file, _, class_name = self.name.rpartition(":")
        path = source.resolve().parent / file if file else source.resolve()
        return f"{path.resolve()}:{class_name}"

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a name of another form, or for a file that is not there."""
        file, _, class_name = str(self.name).rpartition(":")
        if not class_name.isidentifier() or (file and not file.endswith(".py")):
            yield self.problem(
                f'name={self.name!r}) must be "Class" or "path.py:Class"',
                "name a class of this file, or a file and its class",
                "bad-system-name",
            )
        elif file and self.where.line and not (Path(self.where.file).parent / file).is_file():
            yield self.problem(
                f"name={self.name!r}) must name a file that exists",
                f"create {Path(self.where.file).parent / file}, or correct the path",
                "no-system-file",
            )
