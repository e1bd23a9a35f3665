"""How a schedule names a moment: `when.at`, `when.phase`, `when.next` or `when.random`, and then `.do(fault)`."""

from __future__ import annotations

from chaos._declare import Duration
from chaos.experiment.schedule import At, Next, Phase, Random


def at(time: Duration) -> At:
    """Return the moment `time` after the start of the load."""
    return At(time)


def phase(name: str, *, nth: int = 1) -> Phase:
    """Return the moment at which phase `name` is reached for the nth time, 1-based, by any transaction of the run.

    The fault is in place before the transaction that reached it goes on.
    """
    return Phase(name, nth)


def next(name: str, *, after: int = 0) -> Next:  # noqa: A001  # read as when.next
    """Return the moment at which phase `name` is reached in turn, when every rule written before has begun.

    With `after` they must be over too, and so many transactions must have been acknowledged since with every store
    caught up: rules in turn never meet, however slow the machine is. As the end of a fault, in `.heal(at=...)`, it is
    reached when so many were acknowledged since the fault began.
    """
    return Next(name, after)


def random(*, between: tuple[Duration, Duration]) -> Random:
    """Return a moment within `between`, drawn uniformly from the run's seed, so the same seed gives the same one."""
    return Random(between)
