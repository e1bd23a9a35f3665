"""How a schedule names a moment: `when.at(...)`, `when.phase(...)` or `when.random(...)`, and then `.do(fault)`."""

from __future__ import annotations

from chaos._declare import Duration
from chaos.experiment.schedule import At, Phase, Random


def at(time: Duration) -> At:
    """Return the moment `time` after the start of the load."""
    return At(time)


def phase(name: str, *, nth: int = 1) -> Phase:
    """Return the moment at which phase `name` is reached for the nth time, 1-based, by any transaction of the run.

    The fault is in place before the transaction that reached it goes on.
    """
    return Phase(name, nth)


def random(*, between: tuple[Duration, Duration]) -> Random:
    """Return a moment within `between`, drawn uniformly from the run's seed, so the same seed gives the same one."""
    return Random(between)
