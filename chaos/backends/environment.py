"""What a run needs of the place where its servers are: the protocol of all backends.

A backend starts a Redis-compatible server behind a proxy and makes the folders of the file stores. Whether server
and proxy are child processes or containers is its own business; the runner asks for nothing but what is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from chaos._channel import Channel
from chaos._process import Child
from chaos.backends.toxiproxy import Toxiproxy
from chaos.errors import HarnessError


class Containers(Protocol):
    """What can be done to the container of a store, beyond signals. Every call returns when it is done.

    Raises HarnessError when the daemon says no.
    """

    async def state(self) -> dict[str, Any]:
        """Return the daemon's word on the container: Running, Paused, Pid, ExitCode ..."""

    async def stop(self, grace_s: float) -> None:
        """Ask the server to end (SIGTERM), and kill it after `grace_s`."""

    async def start(self) -> None:
        """Start it again on the same data, thaw it if it is frozen, and wait until the server answers. Idempotent."""

    async def start_frozen(self) -> None:
        """Start the server, which is down, and freeze it at once: the container runs and nothing answers."""

    async def disconnect(self) -> None:
        """Take it off the private network; connections through the proxy hang or break."""

    async def connect(self) -> None:
        """Put it back, under the same name."""

    async def networks(self) -> tuple[str, ...]:
        """Return the networks that it is on."""

    async def limit_memory(self, limit_bytes: int | None) -> None:
        """Bound the memory of the container; None takes the bound away."""

    async def memory(self) -> Mapping[str, int]:
        """Return usage_bytes, limit_hits (how often the kernel met the bound) and oom_kills."""


class Environment(Protocol):
    """A started place. One object, one run; every method but `start` may be called at any time."""

    redis_host: str
    """Where the system under test reaches the server: the proxy's address."""
    redis_port: int
    identities: dict[str, Any]
    """What the servers say they are, for run.json: versions, image digests, paths."""
    proxy_channel: Channel | None
    """The channel to our own proxy process; None when a Toxiproxy does its work."""
    toxiproxy: Toxiproxy | None
    """The client of the Toxiproxy in front of the server; None when our own proxy does its work."""
    proxy_name: str
    """Name of the proxy in front of the server, in whichever of the two it is."""
    redis_folder: Path | None
    """The server's files, which may be removed while it is down; None in a container."""
    containers: Containers | None
    """None where the server is not in a container."""

    async def start(self) -> None:
        """Start server and proxy, make folders; return when a PING went through the proxy.

        Raises EnvironmentUnavailable with the reason; what was started until then is ended by `stop`.
        """

    async def stop(self) -> list[str]:
        """End everything; return the names of what could not be ended. Idempotent."""

    def lost_proxy(self) -> HarnessError | None:
        """Return the failure to raise when the proxy has ended by itself: no fault aims at it. Cheap."""

    def shimmed(self) -> Child | None:
        """Return the server's process when it runs under our file shim; None in a container."""

    async def signal_redis(self, number: int) -> int:
        """Send a signal to the server and return its pid; after SIGKILL it stays down until `revive_redis`.

        SIGSTOP and SIGCONT to a container mean the freezer (docker pause). Raises ProcessLookupError when it
        does not run.
        """

    def keep_redis_down(self) -> None:
        """Let nothing but `revive_redis` start the server again once it has ended."""

    async def redis_gone(self, pid: int, timeout_s: float) -> bool:
        """Wait until the process that had `pid` has ended; False when `timeout_s` ran out first."""

    async def redis_stopped(self, pid: int) -> bool:
        """Tell whether the server that has `pid` is stopped now, by SIGSTOP or in the freezer."""

    async def revive_redis(self) -> None:
        """Start the server again if a fault keeps it down; returns when it answers. Idempotent.

        Raises EnvironmentUnavailable when it does not come up; it is then tried again as after any other end.
        """

    async def mend_redis(self) -> dict[str, int]:
        """Do what an operator does about a log that the server refuses to read, and start it; return what was done.

        redis_log_cut_bytes: how much the server's own tool cut off. redis_log_set_aside: 1 when that did not do, and
        it starts without its data. Raises EnvironmentUnavailable when it does not come up for all that.
        """
