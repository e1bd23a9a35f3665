"""One commit under way, between the task that asked for it and the leader that carries it out."""

from __future__ import annotations

import asyncio

from chaos.transactions.system import Aborted, Outcome
from chaos.transactions.unit import Transaction


class Attempt:
    """`outcome` is set at most once, and whoever waits is woken then.

    Until COMMIT is handed to SQLite's thread the caller may abandon the attempt, and then it certainly never
    happens; afterwards nobody can call it back.
    """

    __slots__ = ("_waiter", "handed_over", "outcome", "unit")

    def __init__(self, unit: Transaction) -> None:
        """Begin undecided."""
        self.unit = unit
        self.handed_over = False
        self.outcome: Outcome | None = None
        self._waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def abandoned(self) -> bool:
        """Whether the outcome is settled although COMMIT was never called."""
        return self.outcome is not None and not self.handed_over

    def abandon(self, reason: str) -> bool:
        """Give up; True when that came in time, and the outcome is Aborted."""
        if not self.handed_over:
            self.decide(Aborted(reason=reason))
        return self.abandoned

    def decide(self, outcome: Outcome) -> None:
        """Settle the outcome; only the first time counts."""
        if self.outcome is None:
            self.outcome = outcome
            if not self._waiter.done():
                self._waiter.set_result(None)

    async def decided(self) -> Outcome:
        """Wait for the outcome. For one waiter. Cancellation: safe; the attempt goes on, see `abandon`."""
        if self.outcome is None:
            await self._waiter
        assert self.outcome is not None
        return self.outcome
