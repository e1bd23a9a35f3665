"""A fault inside the proxy: what each kind may do to the proxy, to new connections and to the links of each.

A toxic is made when the harness injects a network fault and lives until that fault is healed. A new kind
overrides some of: `start` and `stop` (act on the proxy as a whole), `admit` (act while a connection is being
made) and `stage` (act on what crosses one direction of one connection).
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from chaos._seeds import stream
from chaos.errors import HarnessError
from chaos.faults.network.connection import Connection, Cut
from chaos.faults.network.link import Link, Side, Stage

if TYPE_CHECKING:
    from chaos.faults.network.resp.tap import Tap

MILLISECONDS_MAX = 24 * 3600 * 1000
"""The longest time that the API takes: a day. Toxiproxy takes any number and dies of some."""

SIDES: Mapping[str, tuple[Side, ...]] = {"request": ("request",), "reply": ("reply",), "both": ("request", "reply")}
"""The directions that each declared `side` stands for."""


class Control(Protocol):
    """What a proxy lets a toxic do beyond its links."""

    @property
    def tap(self) -> Tap:
        """What reads the frames of this proxy's connections."""

    @property
    def address(self) -> tuple[str, int]:
        """The IPv4 address and the port that clients connect to."""

    def connections(self) -> tuple[Connection, ...]:
        """Return the open connections, in order of ordinal."""

    def cut_all(self, how: Cut) -> int:
        """Cut every connection; return how many there were. RST and FIN also end those that are being made."""

    def refresh(self, toxic: Toxic) -> None:
        """Have a toxic that was changed act on every open connection as it says now."""

    async def inject(self, fault_id: str, toxic: Toxic) -> Mapping[str, int]:
        """Put another toxic to work under an id of its own. Raises HarnessError for an id in use."""

    async def heal(self, fault_id: str) -> Mapping[str, int]:
        """Take that one out again and return its evidence; {} for an unknown id."""

    def stop_listening(self, owner: object) -> None:
        """Close the listening socket until every owner has called `listen`; the port stays reserved."""

    def listen(self, owner: object) -> None:
        """Withdraw one owner's wish; listens again when it was the last. Raises OSError if the port was taken."""

    async def refuses(self) -> bool:
        """Connect to the proxy's own port and tell whether the kernel refused (ECONNREFUSED)."""


class Toxic:
    """Base of toxics: changes nothing.

    `kind` is the name of the declared fault; `lasting` is False for a point in time.

    Every draw comes from `seed` and the ordinal of the connection, so the same connections are hit by the same
    toxic whatever its neighbours do. `toxicity` is the share of connections it acts on, from 0 to 1.
    """

    kind: ClassVar[str]
    lasting: bool = True

    def __init__(self, *, toxicity: float = 1.0, seed: int = 0) -> None:
        """Start with empty evidence."""
        self.toxicity = toxicity
        self.seed = seed
        self.fault_id: str | None = None
        """The id under which a proxy has it; None before it is injected."""
        self.counters: Counter[str] = Counter()

    def touches(self, ordinal: int) -> bool:
        """Tell whether connection `ordinal` is among those this toxic acts on; the same answer every time."""
        return self.toxicity >= 1 or stream(self.seed, "toxicity", ordinal).random() < self.toxicity

    def rng(self, ordinal: int, side: Side) -> Random:
        """Return the stream that one direction of one connection draws from."""
        return stream(self.seed, ordinal, side)

    async def start(self, control: Control) -> None:
        """Act on the proxy as a whole; the stages are in place already. Must begin before its first await."""

    async def stop(self, control: Control) -> None:
        """Take back what `start` did; the stages are gone already. Idempotent; also after a cancelled start."""

    def abandon(self) -> None:
        """Let go of sockets and tasks at once: the proxy is closed without a heal."""

    async def admit(self, client: socket.socket) -> bool:
        """Decide on a connection that was accepted and not yet dialed; False resets it. It may wait."""
        return True

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Return how this fault acts on one direction of one connection; None when it leaves it alone.

        Asked once per link: in order of connection ordinal for those open at injection, then as they open; and
        again for a connection that a change of toxicity has brought back.
        """
        return None

    def evidence(self) -> dict[str, int]:
        """Return the counters gathered so far."""
        return dict(self.counters)


class ApiToxic(Toxic):
    """Base of the toxics that Toxiproxy's HTTP API knows too: described by whole numbers, changed while they act.

    Class attributes: `api_type` is the name there. `api_ranges` holds the bounds of each attribute, in the order
    of Toxiproxy's JSON; `api_attributes` their names. What an attribute becomes here is a constructor's argument
    and an attribute of the same name, see `settings`; stages read it from the toxic, so a change reaches them.
    """

    api_type: ClassVar[str]
    api_ranges: ClassVar[Mapping[str, tuple[int, int]]]
    api_attributes: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        cls.api_attributes = tuple(cls.api_ranges)

    def __init__(self, *, side: str = "both", toxicity: float = 1.0, seed: int = 0) -> None:
        """Act on the directions that `side` names. Raises HarnessError for an unknown side."""
        super().__init__(toxicity=toxicity, seed=seed)
        self.sides = directions(side)
        self._control: Control | None = None

    @property
    def side(self) -> Side:
        """The direction this toxic acts on; of both, the first."""
        return self.sides[0]

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, int], *, side: Side, toxicity: float, seed: int) -> Self:
        """Return the toxic that the API describes; what is missing is 0, what is unknown is ignored.

        Raises ValueError, in one line, for what is out of range.
        """
        settings = cls.settings(cls._checked(attributes))
        arguments = {**settings, "side": side, "toxicity": _share(toxicity), "seed": seed}
        return cls(**arguments)

    def attributes(self) -> dict[str, int]:
        """Return all attributes as the API shows them, in its order."""
        return {}

    @classmethod
    def settings(cls, attributes: Mapping[str, int]) -> dict[str, Any]:  # noqa: ARG003  # for kinds that have some
        """Return what complete attributes mean in our own terms: names and values of this class's arguments."""
        return {}

    def update(self, attributes: Mapping[str, int], toxicity: float | None = None) -> None:
        """Change what is given, on open connections too; everything or, when it raises ValueError, nothing.

        Another toxicity asks every connection again: those that the seed brings in or drops out change over,
        the others notice nothing.
        """
        settings = self.settings(self._checked({**self.attributes(), **attributes}))
        share = self.toxicity if toxicity is None else _share(toxicity)
        for name, value in settings.items():
            setattr(self, name, value)
        self.toxicity = share
        if self._control is not None:
            self._control.refresh(self)

    async def start(self, control: Control) -> None:
        """Remember the proxy, for updates."""
        self._control = control

    async def stop(self, control: Control) -> None:
        """Forget the proxy."""
        self._control = None

    @classmethod
    def _checked(cls, attributes: Mapping[str, int]) -> dict[str, int]:
        """Return every attribute. Raises ValueError for one that is out of range."""
        complete = {name: attributes.get(name, 0) for name in cls.api_attributes}
        for name, (low, high) in cls.api_ranges.items():
            if not low <= complete[name] <= high:
                raise ValueError(f"{name} must be between {low} and {high}, not {complete[name]}")
        return complete


def _share(toxicity: float) -> float:
    """Return a toxicity. Raises ValueError unless it is a share of connections."""
    if not 0 <= toxicity <= 1:
        raise ValueError(f"toxicity must be between 0 and 1, not {toxicity:g}")
    return toxicity


def directions(side: str) -> tuple[Side, ...]:
    """Return the links that `side` means. Raises HarnessError for anything but request, reply and both."""
    if side not in SIDES:
        raise HarnessError(f"side={side!r} must be one of {', '.join(SIDES)}")
    return SIDES[side]
