"""The fault protocol: a declared value that is injected into a running environment and healed again.

A fault is a frozen dataclass below `Fault`. It knows nothing of experiments, schedules or histories: it gets
the levers of an environment, acts, and hands back an `Injection` that holds what is needed to heal it. The
evidence returned by `heal` is what decides whether the fault landed at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, Protocol

from chaos._declare import Declared
from chaos.errors import Problem

Evidence = Mapping[str, int | float | str]
"""What a fault did, by name: bytes_held, connections_cut, calls_failed, exit_signal ..."""


STRUCK = "struck_monotonic_ns"
"""The evidence that tells when a fault struck last, in nanoseconds of the monotonic clock."""


class NetworkLever(Protocol):
    """The proxy in front of one store; each call returns after the proxy has acted."""

    async def inject(self, fault_id: str, kind: str, arguments: Mapping[str, Any]) -> Evidence:
        """Start the network fault `kind` on every connection, open and new, until `heal`."""

    async def heal(self, fault_id: str) -> Evidence:
        """Stop it and return the counters it gathered; idempotent: an unknown id returns {}."""


class DiskLever(Protocol):
    """What hurts the file calls of one store's processes: the file shim, or strace where there is none."""

    async def arm(self, fault_id: str, rule: Mapping[str, Any]) -> None:
        """Put a rule in force; it acts from the next matching call on. See `chaos.faults.disk.control.Control.arm`."""

    async def disarm(self, fault_id: str) -> Evidence:
        """Clear the rule and return its counters; idempotent: an unknown id returns {}."""


class ContainerLever(Protocol):
    """The container of one store; each call returns when it is done. See `chaos.backends.environment.Containers`."""

    async def state(self) -> dict[str, Any]:
        """Return the daemon's word on it: Running, Paused, Pid, ExitCode ..."""

    async def stop(self, grace_s: float) -> None:
        """Ask the server to end, and kill it after `grace_s`."""

    async def start(self) -> None:
        """Start it again on the same data, thaw it if it is frozen, and wait until the server answers. Idempotent."""

    async def start_frozen(self) -> None:
        """Start the server, which is down, and freeze it at once."""

    async def disconnect(self) -> None:
        """Take it off its network."""

    async def connect(self) -> None:
        """Put it back."""

    async def networks(self) -> tuple[str, ...]:
        """Return the networks that it is on."""

    async def limit_memory(self, limit_bytes: int | None) -> None:
        """Bound the container's memory; None takes the bound away."""

    async def memory(self) -> Mapping[str, int]:
        """Return usage_bytes, limit_hits (how often the kernel met the bound) and oom_kills."""


class PowerLever(Protocol):
    """The power of the machine that all stores stand on, as far as processes under the file shim are concerned."""

    async def off(self, fault_id: str, policy: str, rng: Random) -> Evidence:
        """End every process at one moment and rebuild the stores' folders as `policy` says; see `PowerLoss`.

        Nothing is started again before `on`. When the operation log cannot carry a rebuild, the folders stay as the
        processes left them, and the evidence has "refused", with the reason, and no "folders_rebuilt".
        """

    async def on(self, fault_id: str) -> Evidence:
        """Start the server, then let the worker be started. Idempotent: an unknown id returns {}."""


class Levers(Protocol):
    """What an environment lets faults act on. Names are store names ("redis", "sqlite", "graph") or "worker"."""

    def network(self, store: str) -> NetworkLever:
        """Return the proxy of `store`; KeyError when it is not reached over a network."""

    def disk(self, store: str) -> DiskLever:
        """Return what reaches the file calls of `store`; EnvironmentUnavailable when nothing does."""

    def container(self, store: str) -> ContainerLever:
        """Return the container of `store`; EnvironmentUnavailable when it is not in one."""

    def power(self) -> PowerLever:
        """Return the power switch; EnvironmentUnavailable when no operation log is kept."""

    async def signal(self, target: str, signal_number: int) -> int:
        """Send a signal to the process behind `target`; return its pid. ProcessLookupError if it is gone."""

    async def wait_gone(self, target: str, pid: int, timeout_s: float) -> bool:
        """Wait until process `pid` of `target` has ended; False when `timeout_s` ran out first."""

    async def stopped(self, target: str, pid: int) -> bool:
        """Tell whether process `pid` of `target` is stopped now, by SIGSTOP or in a container's freezer."""

    async def supplant(self) -> int:
        """Stop the worker, kill its children, and have another started in its place; return the stopped one's pid.

        Raises ProcessLookupError when there is none, or it is not open yet.
        """

    async def stall(self, duration_s: float) -> float:
        """Block the worker's event loop, and return for how long it stood still, in seconds, when it goes on.

        Raises ProcessLookupError when no worker runs, or it ends meanwhile.
        """

    async def shift_clock(self, by_s: float) -> int:
        """Have the worker's wall clock tell so many seconds more than the true time; return how many clocks now do.

        0.0 gives it back. Raises ProcessLookupError when no worker runs.
        """

    async def resume(self, pid: int) -> int:
        """Let a supplanted worker go on; return how many phases it was seen to reach, as soon as there is one.

        0 when it ended, or did nothing for some seconds.
        """

    def lock(self, store: str) -> int:
        """Take the lock that whoever writes to a file store needs; return a descriptor whose closing gives it back.

        Raises ProcessLookupError while somebody else has it, or the store is not open; EnvironmentUnavailable when it
        has none that could be taken.
        """

    def corrupt(self, store: str, path: str, offset: int, length: int) -> Mapping[str, int]:
        """Turn bytes of the files of a store that the glob `path` matches into their complement.

        Returns files_changed and bytes_changed. Raises ProcessLookupError when no file matches.
        """

    async def empty(self, target: str) -> Mapping[str, int]:
        """Remove every file of a store whose process is gone; return files_removed and bytes_lost.

        Raises EnvironmentUnavailable when its files are not within reach.
        """

    async def revive(self, target: str) -> None:
        """Start again what does not restart by itself (a store's server); nothing for a supervised process."""


@dataclass
class Injection:
    """One logged occurrence of a fault. `state` is private to the fault that made it."""

    fault_id: str
    evidence: dict[str, int | float | str] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault(Declared):
    """Base of all faults.

    Class attributes that a kind of fault sets:
        kind: its name in logs, dotted: "network.latency", "disk.error", "process.kill".
        bites: the evidence counters of which at least one must exceed 0, or the fault never landed.
        lasting: True when it holds until healed; False for a point in time (a kill, a cut).
        stops_work: True when no transaction can be acknowledged while it holds, so none is demanded.
        severs: True when one store cannot be used at all while it holds, so no transaction reaches every store.
    """

    kind: ClassVar[str]
    bites: ClassVar[tuple[str, ...]]
    lasting: ClassVar[bool] = True
    stops_work: ClassVar[bool] = False
    severs: ClassVar[bool] = False

    @property
    def bounded(self) -> bool:
        """Whether it strikes a bounded number of times while it lasts: it is over at its last blow, not at its heal.

        Its evidence then has STRUCK, and recovery counts from there.
        """
        return False

    def arguments(self) -> dict[str, Any]:
        """Return the declared parameters as plain JSON values, times in seconds (keys end in _s)."""
        raise NotImplementedError

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from ()

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Apply the fault and return its injection, already acting.

        `rng` is this fault's own stream of the run's seed; nothing else draws from it. Raises
        EnvironmentUnavailable when a lever is missing. Cancellation: if it is cancelled half-way, the caller
        heals `fault_id` all the same, so inject must tolerate a heal of something not begun.
        """
        raise NotImplementedError

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Take the fault back and return all evidence. Idempotent, and safe when inject was cut short."""
        raise NotImplementedError

    def refused_by(self, provider: str) -> str | None:
        """Return why `provider` ("embedded", "toxiproxy" or "docker") cannot do this fault; None when it can.

        "toxiproxy" is a real Toxiproxy in front of our own server, "docker" the same in front of a server in a
        container (the backends docker and compose). A file fault is asked about "strace" too, where nothing can be
        preloaded.
        """
        return None

    def landed(self, evidence: Evidence) -> bool:
        """Tell whether the fault bit: one of the counters in `bites` exceeds 0."""
        return any(isinstance(evidence.get(name), int | float) and evidence[name] > 0 for name in self.bites)  # type: ignore[operator]  # guarded by isinstance
