"""Which crash a verdict was earned against: a killed process keeps what it wrote, lost power only what was synced."""

from __future__ import annotations

from chaos.history.view import FaultInterval, History

POWER_LOSS = "disk.power_loss"
_APPLIED = "applied"
"""The policy under which a loss of power takes nothing but the processes."""

_KILLS = ("process.kill", "process.lose_data", "disk.kill", POWER_LOSS)


def crash_of(history: History) -> str | None:
    """Return the hardest crash among the faults that landed: "power loss (posix, random)" or "process crash".

    None when no process was killed. The policies are in the order of their first use.
    """
    landed = [fault for fault in history.faults if fault.landed]
    policies = dict.fromkeys(_policy(fault) for fault in landed if fault.kind == POWER_LOSS)
    policies.pop(_APPLIED, None)
    if policies:
        return f"power loss ({', '.join(policies)})"
    return "process crash" if any(fault.kind in _KILLS for fault in landed) else None


def with_crash(summary: str, word: str, crash: str | None) -> str:
    """Return a summary that says against what it holds, or after what it broke."""
    return summary if crash is None else f"{summary}, {word} {crash}"


def _policy(fault: FaultInterval) -> str:
    return str(fault.arguments.get("policy"))
