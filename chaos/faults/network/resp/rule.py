"""The proxy's part of `OnCommand`: which frames a rule hits, and what it has counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

from chaos.errors import HarnessError
from chaos.faults.network.connection import CUTS
from chaos.faults.network.resp.actions import POINTS
from chaos.faults.network.resp.session import Exchange
from chaos.faults.network.toxic import Control, Toxic

if TYPE_CHECKING:
    from chaos.faults.network.resp.tap import Tap

ACTIONS = ("cut", "drop", "delay", "duplicate", "forge", "hold")


class Filter:
    """Which requests are meant: by command, key and the client's name."""

    def __init__(
        self, command: str, key: str | None = None, client: str | None = None, transaction: str | None = None
    ) -> None:
        """`command` and `key` are globs; a command with a space in it is compared with its subcommand."""
        self._command = " ".join(command.upper().split())
        self._key = None if key is None else key
        self._client = client
        self._word = None if transaction is None else _word(transaction)

    def takes(self, exchange: Exchange) -> bool:
        """Tell whether a request is meant."""
        name = exchange.words if " " in self._command else exchange.name
        if not fnmatchcase(name, self._command):
            return False
        if self._client is not None and exchange.client != self._client:
            return False
        if self._word is not None and not self._names(self._word, exchange):
            return False
        if self._key is None:
            return True
        return any(fnmatchcase(key.decode("utf-8", "surrogateescape"), self._key) for key in exchange.keys)

    @staticmethod
    def _names(word: re.Pattern[bytes], exchange: Exchange) -> bool:
        """Tell whether a request, or one before it in the same MULTI, has the word in an argument."""
        return any(word.search(part) for one in exchange.company or (exchange,) for part in one.arguments)


def _word(text: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?<![\w.])" + re.escape(text.encode()) + rb"(?![\w.])")


class OnCommandToxic(Toxic):
    """A rule of the proxy's `Tap`.

    Evidence: frames_matched (requests that the filter takes), frames_hit (acted upon), frames_too_short (without
    the byte that was asked for), frames_oversize (too large to act upon), and by what was done connections_cut,
    frames_dropped, frames_delayed, frames_duplicated, frames_forged, frames_held, frames_released (by the event
    they waited for), connections_reset (by the heal, behind a discard or a half-close).
    """

    kind: ClassVar[str] = "network.on_command"

    def __init__(
        self,
        *,
        command: str,
        do: Mapping[str, Any],
        key: str | None = None,
        client: str | None = None,
        transaction: str | None = None,
        nth: int = 1,
        times: int | None = 1,
        at: str = "before_request",
        byte: int | None = None,
    ) -> None:
        """Raises HarnessError for an unknown point, action or way to cut."""
        super().__init__()
        self.action = dict(do)
        for name, value, choices in (
            ("at", at, POINTS),
            ("action", self.word, ACTIONS),
            ("how", do.get("how", "rst"), CUTS),
        ):
            if value not in choices:
                raise HarnessError(f"{name}={value!r} must be one of {', '.join(choices)}")
        self.at = at
        self.byte = byte or 0
        self._filter = Filter(command, key, client, transaction)
        self._nth = nth
        self._last = None if times is None else nth + times - 1
        self._tap: Tap | None = None

    @property
    def word(self) -> str:
        """The name of the action."""
        return str(self.action.get("action"))

    @property
    def on_reply(self) -> bool:
        """Whether the point lies at the reply."""
        return self.at in ("before_reply", "reply_byte")

    def meet(self, exchange: Exchange) -> bool:
        """Count a request; True when this occurrence is to be hit."""
        if (self.on_reply or self.word in ("duplicate", "forge")) and not exchange.answered:
            return False
        if not self._filter.takes(exchange):
            return False
        self.counters["frames_matched"] += 1
        count = self.counters["frames_matched"]
        return count >= self._nth and (self._last is None or count <= self._last)

    def cut_at(self, size: int) -> int | None:
        """Return how many bytes of a frame lie before the point; None when it has no such byte."""
        at = {"before_request": 0, "before_reply": 0, "after_request": size}.get(self.at)
        if at is not None:
            return at
        at = self.byte if self.byte >= 0 else size + self.byte
        return at if 0 <= at < size else None

    async def start(self, control: Control) -> None:
        """Arm the rule."""
        self._tap = control.tap
        self._tap.arm(self)

    async def stop(self, control: Control) -> None:
        """Disarm it: what it holds is delivered, what it discards is reset."""
        if self._tap is not None:
            self._tap.disarm(self)
            self._tap = None
