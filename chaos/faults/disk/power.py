"""Power loss: every process that writes below the data root ends at one moment, and the disk keeps what it must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers

POLICIES = ("posix", "ordered", "random", "applied")


@dataclass(frozen=True)
class PowerLoss(Fault):
    """The machine of the stores loses power and comes on again: worker, graph child and Redis server, all at once.

    What the disk holds then is decided by `policy`, from the log of all file operations up to that moment:

        posix    only synced bytes, and names whose folder was synced: the least that the standard promises
        ordered  only synced bytes; a sync of any file or folder keeps all names made before it, as on ext4
        random   a part of what was not synced, bytes and names by themselves, drawn from this fault's stream
        applied  everything: the control, which takes no more than the end of the processes does

    A point in time. Everything is started again on that disk at once, the server first; the time that the rebuilding
    takes counts as recovery.
    """

    kind: ClassVar[str] = "disk.power_loss"
    bites: ClassVar[tuple[str, ...]] = ("folders_rebuilt",)
    lasting: ClassVar[bool] = False

    policy: str = "posix"

    def arguments(self) -> dict[str, Any]:
        """Return the policy."""
        return {"policy": self.policy}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown policy."""
        yield from self.bad_choice("policy", POLICIES)

    def refused_by(self, provider: str) -> str | None:
        """Refuse a server in a container, and strace: what they write is not recorded."""
        if provider == "strace":
            return "strace keeps no log of what is written and synced"
        if provider == "docker":
            return "the file shim, which records what is synced, is not loaded into a server in a container"
        return None

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Take the power away and put the disk into the state that the policy leaves.

        Raises EnvironmentUnavailable when no shim is loaded.
        """
        evidence = await levers.power().off(fault_id, self.policy, rng)
        return Injection(fault_id, dict(evidence))

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Start everything again."""
        injection.evidence.update(await levers.power().on(injection.fault_id))
        return dict(injection.evidence)
