"""Everything that is retried, in one place: which errors, how fast, and until when.

Back-off is exponential without jitter: each policy has one caller at a time, so there is no herd to spread,
and a run stays repeatable. Every policy either has a deadline or belongs to a task that ends by cancellation
when its owner closes; none sleeps longer than 250 ms at once.
"""

from __future__ import annotations

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_exponential,
)

from chaos.errors import StoreError, StoreInDoubt

_FIRST_S = 0.01
_LONGEST_S = 0.25


def _backoff() -> wait_exponential:
    return wait_exponential(multiplier=_FIRST_S, max=_LONGEST_S)


def sqlite_open(deadline_s: float) -> AsyncRetrying:
    """Open the commit log: a predecessor that is dying may hold its lock. Raises the last error."""
    return AsyncRetrying(
        retry=retry_if_exception_type(StoreError), wait=_backoff(), stop=stop_after_delay(deadline_s), reraise=True
    )


def sqlite_reopen() -> AsyncRetrying:
    """Reopen the commit log after a commit of unknown outcome, until it works or the task is cancelled.

    Nothing may be committed before, so there is nothing better to do than to try again.
    """
    return AsyncRetrying(retry=retry_if_exception_type(StoreError), wait=_backoff(), stop=stop_never)


def ship(deadline_s: float) -> AsyncRetrying:
    """Send a batch that Redis must have before the commit, again while nobody knows whether it has arrived.

    The script knows a request that it has seen. The deadline is short, since SQLite's lock is held meanwhile. Raises
    the last error, and at once what says that nothing has happened.
    """
    return AsyncRetrying(
        retry=retry_if_exception_type(StoreInDoubt), wait=_backoff(), stop=stop_after_delay(deadline_s), reraise=True
    )


def graph_restart() -> AsyncRetrying:
    """Start the graph child until it serves its database or the supervising task is cancelled.

    The file stays locked until the kernel has torn down a killed predecessor; and what it is filled from, the
    commit log, may be away for a moment.
    """
    return AsyncRetrying(retry=retry_if_exception_type(StoreError), wait=_backoff(), stop=stop_never)


def apply_forever() -> AsyncRetrying:
    """Bring a store one step further, until it works or the applier is cancelled.

    The transaction is committed already: giving up would leave it torn. Each attempt reads first what the
    store has, so repeating is harmless whatever became of the attempt before.
    """
    return AsyncRetrying(retry=retry_if_exception_type(StoreError), wait=_backoff(), stop=stop_never)
