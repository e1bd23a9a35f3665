"""MemoryLimit: the container may not use more memory than so much; the kernel sees to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Injection, Levers
from chaos.faults.container.declared import ContainerFault

LIMIT_BYTES_MIN = 6 * 2**20
"""The daemon takes no lower bound."""
LIMIT_BYTES_MAX = 2**40


@dataclass(frozen=True)
class MemoryLimit(ContainerFault):
    """Bound memory and swap of the container of `store` to `limit_bytes` until healed.

    At the bound the kernel takes back what it can, which makes the server slow, and then kills it; it is started again
    under the same bound. A bound below what the server holds is refused by some kernels: then the fault did not land.
    """

    kind: ClassVar[str] = "container.memory_limit"
    bites: ClassVar[tuple[str, ...]] = ("limit_hits", "oom_kills")

    limit_bytes: int

    def arguments(self) -> dict[str, Any]:
        """Return the store and the bound."""
        return {"store": self.store, "limit_bytes": self.limit_bytes}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a bad store or bound."""
        yield from super().problems()
        yield from self.bad_count("limit_bytes", LIMIT_BYTES_MIN, LIMIT_BYTES_MAX)

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Set the bound; whether it hurts shows when the server wants more."""
        container = self.lever(levers)
        before = dict(await container.memory())
        await container.limit_memory(int(self.limit_bytes))
        return Injection(fault_id, {"usage_bytes": before["usage_bytes"]}, {"before": before})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Count how often the kernel met the bound, then take it away; a second call counts no more."""
        container = self.lever(levers)
        before = injection.state.get("before")
        if before is not None and "oom_kills" not in injection.evidence:
            now = await container.memory()
            injection.evidence.update({name: max(0, now[name] - before[name]) for name in ("limit_hits", "oom_kills")})
        await container.limit_memory(None)
        return dict(injection.evidence)
