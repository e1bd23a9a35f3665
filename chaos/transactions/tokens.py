"""Which tokens have something under way in this process, and which may never commit in it again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.errors import TransactionAborted, TransactionInDoubt


class Tokens:
    """Keeps recovery honest: it may call a token aborted only when nothing of it can commit any more.

    Everything of a transaction holds its token: the body from its very start, and the commit until its task
    has ended. Several attempts may hold the same one. A token that was called aborted is refused from then on.
    That fence is in memory only: it ends with the process, whose unfinished attempts end with it, and it is
    no help against a client that reuses a token in a later process. The harness never does.
    """

    def __init__(self) -> None:
        """Nothing is under way, nothing is refused."""
        self._holders: dict[str, int] = {}
        self._released: asyncio.Event | None = None
        self._questions: Counter[str] = Counter()
        self._aborted: set[str] = set()

    def admit(self, token: str) -> None:
        """Refuse an attempt whose commit would belie an answer of recovery.

        Raises TransactionAborted when the token was called aborted, TransactionInDoubt while it is looked up.
        """
        if token in self._aborted:
            raise TransactionAborted(token, "recovery has called it aborted; use a new token")
        if self._questions[token]:
            raise TransactionInDoubt(token, "recovery is looking it up; ask for its outcome again")

    def hold(self, token: str) -> None:
        """Note that something of `token` begins that may lead to a commit."""
        self._holders[token] = self._holders.get(token, 0) + 1

    def release(self, token: str) -> None:
        """Note its end; to be called once for each `hold`."""
        left = self._holders[token] - 1
        if left:
            self._holders[token] = left
        else:
            del self._holders[token]
            if self._released is not None:  # somebody waits; there is a new one for whoever waits next
                self._released.set()
                self._released = None

    async def idle(self, token: str, timeout_s: float) -> bool:
        """Wait until nothing holds `token`; False when that takes longer than `timeout_s`. Safe to cancel.

        True holds until the caller's next await.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while token in self._holders:
                    self._released = self._released or asyncio.Event()
                    await self._released.wait()
        except TimeoutError:
            pass
        return token not in self._holders

    @contextmanager
    def question(self, token: str) -> Iterator[None]:
        """Let no attempt with `token` begin inside the block, so that what is looked up there stays true."""
        self._questions[token] += 1
        try:
            yield
        finally:
            self._questions[token] -= 1
            if not self._questions[token]:
                del self._questions[token]

    def refuse(self, token: str) -> None:
        """Let no attempt with `token` begin from now on: it is about to be called aborted."""
        self._aborted.add(token)
