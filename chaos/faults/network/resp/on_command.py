"""OnCommand: a fault at one point of one command, hit by count and not by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.network.declared import NetworkFault
from chaos.faults.network.resp.actions import POINTS, Action, bad_count, bad_filter

_MOMENTARY = ("cut", "drop", "duplicate", "forge")
_FINAL = ("rst", "fin")
_AT_BYTE = ("request_byte", "reply_byte")


@dataclass(frozen=True)
class OnCommand(NetworkFault):
    """While it is armed (from its trigger to its heal), act on the nth occurrence of a command, and no other.

    command: its name, or a glob ("EVAL*"), or with its subcommand ("CLIENT SETNAME"). key: a glob over the keys.
    client: only connections that CLIENT SETNAME or HELLO gave this name. transaction: only requests that have this
    word, the token of a transaction, in an argument, or had it earlier in the same MULTI. nth counts the matching
    requests over all connections of the proxy, from 1, since the rule was armed; it and the `times - 1` behind it are
    hit (None: all behind it). at, byte: the point, see `POINTS`; byte counts from 0, or from the frame's end when
    negative (-1: all but the last byte), and a frame that has no such byte is not hit. do: an `Action`.

    A command that gets no reply (CLIENT REPLY OFF, subscribe) counts for points at the request only. When two
    rules hit the same frame, the one that was armed first acts.
    """

    kind: ClassVar[str] = "network.on_command"
    bites: ClassVar[tuple[str, ...]] = ("frames_hit",)

    command: str
    _: KW_ONLY
    do: Action
    key: str | None = None
    client: str | None = None
    transaction: str | None = None
    nth: int = 1
    times: int | None = 1
    at: str = "before_request"
    byte: int | None = None

    @property
    def bounded(self) -> bool:
        """Whether a counted number of frames is hit, each at one moment: what waits or stays open is not over then."""
        how = self.do.arguments().get("how", "rst")
        return self.times is not None and self.do.word in _MOMENTARY and how in _FINAL

    def arguments(self) -> dict[str, Any]:
        """Return everything as plain JSON values; `do` is what the action's own arguments are."""
        names = ("store", "command", "key", "client", "transaction", "nth", "times", "at", "byte")
        return {**{name: getattr(self, name) for name in names}, "do": self.do.arguments()}

    def toxic_arguments(self, rng: Random) -> dict[str, Any]:
        """Return what the toxic is made of; nothing is drawn."""
        return {name: value for name, value in self.arguments().items() if name != "store"}

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the filter, the point and the action."""
        yield from super().problems()
        yield from bad_filter(self)
        yield from bad_count(self, "nth")
        if self.times is not None:
            yield from bad_count(self, "times")
        yield from self.bad_choice("at", POINTS)
        yield from self._bad_byte()
        action = vars(self)["do"]  # whatever the user wrote
        if not isinstance(action, Action):
            yield self.problem(
                f"do={action!r}) must be an action",
                'write for example do=faults.Cut("rst")',
                "not-an-action",
            )
            return
        yield from action.problems()
        if self.at in POINTS and self.at not in action.points:
            yield self.problem(
                f"at={self.at!r}, do={type(action).__name__}) cannot be; the action needs {' or '.join(action.points)}",
                "change at, or the action",
                "action-not-here",
            )

    def _bad_byte(self) -> Iterator[Problem]:
        byte = vars(self)["byte"]  # whatever the user wrote
        if (byte is not None) != (self.at in _AT_BYTE):
            yield self.problem(
                f"at={self.at!r}, byte={byte!r}) must have a byte with {' and '.join(_AT_BYTE)}, and only there",
                "give byte, or another point",
                "byte-and-point",
            )
        elif byte is not None and (isinstance(byte, bool) or not isinstance(byte, int)):
            yield self.problem(f"byte={byte!r}) must be a whole number", "count bytes from 0", "bad-byte")

    def refused_by(self, provider: str) -> str | None:
        """Only our own proxy reads frames."""
        return None if provider == "embedded" else "a Toxiproxy carries bytes and knows no commands"
