"""What the explorer needs to know about a store: how to work with it, and how to look at what a crash left of it.

One file each in this folder. A target is named with its options, as in `sqlite:journal=wal,synchronous=full`. Its
work runs once, recorded, in a process of its own; `observe` runs once per state, in a process that may be killed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from chaos.crashpoints.judge import Observation
from chaos.crashpoints.promises import Promise, Teller


class Target(Protocol):
    """A store with a workload.

    name: as on the command line. ignored: globs of files that are in no state, because the store makes them anew.
    limit_s: how long looking at one state may take. memory_bytes: address space that the looking may use, None for
    no bound. reads_promise: whether what is observed depends on the promise, and not on the state alone. batch: how
    many states one process may look at, one after the other; more than 1 only for a store that keeps nothing between.
    thorough_every: of how many states, chosen by their hash, one is looked at thoroughly; 1 means all. prepared: the
    transactions that `prepare` has put there.
    """

    name: ClassVar[str]
    ignored: tuple[str, ...]
    limit_s: float
    memory_bytes: int | None
    reads_promise: bool
    batch: int
    thorough_every: int
    prepared: tuple[str, ...]

    def demand(self) -> None:
        """Raise EnvironmentUnavailable when the store is not here. Starts nothing."""

    def preload(self, folder: Path) -> None:
        """Do once what every process that is forked later would do: import, and warm up. `folder` is there for it.

        No thread, no process and no open database may be left.
        """

    def prepare(self, data: Path) -> None:
        """Put into the empty folder `data` what the workload begins with."""

    def command(self, act: str, data: Path) -> list[str]:
        """Return the command that does `act` in `data`, under the shim: "work", "persevere" or "recover"."""

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Open what a crash left and check everything; when `thorough`, also write more and open again."""


class BuiltIn:
    """What the built-in targets share: their workloads are methods, run in `chaos.crashpoints.victim`.

    choices: the options with their values, the first being the default; an option without values takes a number.
    texts: the options that take any text, empty by default.
    perseveres: whether the workload goes on after a step that failed, as programs do; error_count: how many have.
    """

    name: ClassVar[str]
    choices: ClassVar[Mapping[str, tuple[str, ...]]]
    texts: ClassVar[tuple[str, ...]] = ()
    ignored: tuple[str, ...] = ()
    limit_s: float = 20.0
    memory_bytes: int | None = None
    reads_promise: bool = False
    batch: int = 1
    thorough_every: int = 1
    prepared: tuple[str, ...] = ()

    default_count: ClassVar[int] = 16

    def __init__(self, options: Mapping[str, str]) -> None:
        """Take the options as checked by `targets.make`."""
        self.options = options
        self.count = int(options.get("transactions") or self.default_count)
        self.perseveres = False
        self.error_count = 0

    @property
    def spelled(self) -> str:
        """The name with the options, as `targets.make` reads it."""
        chosen = ",".join(f"{option}={value}" for option, value in self.options.items() if value)
        return f"{self.name}:{chosen}" if chosen else self.name

    def demand(self) -> None:
        """Raise EnvironmentUnavailable when the store is not here. Starts nothing."""

    def preload(self, folder: Path) -> None:
        """Do once what every process that is forked later would do: import, and warm up. `folder` is there for it.

        No thread, no process and no open database may be left.
        """

    def prepare(self, data: Path) -> None:
        """Begin with nothing."""

    def command(self, act: str, data: Path) -> list[str]:
        """Return the command of the recorded process."""
        return [sys.executable, "-P", "-m", "chaos.crashpoints.victim", self.spelled, act, str(data)]

    def attempt(self, step: Callable[[], object]) -> None:
        """Do a step of the workload; its failure is counted when the workload perseveres, and else raised."""
        try:
            step()
        except Exception as error:
            if not self.perseveres:
                raise
            self.error_count += 1
            sys.stderr.write(text_of(error) + "\n")

    def work(self, data: Path, teller: Teller) -> None:
        """Do the recorded workload in the empty folder `data`, telling what is promised."""
        raise NotImplementedError

    def recover(self, data: Path, teller: Teller) -> None:
        """Open what a crash left, write one more transaction, and close: the workload that a second crash ends."""
        raise NotImplementedError

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Open what a crash left and check everything; when `thorough`, also write more and open again."""
        raise NotImplementedError


def text_of(error: BaseException) -> str:
    """Return an exception as one line of at most a few hundred characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
