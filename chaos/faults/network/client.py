"""The harness's side of the proxy process: typed calls over its channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos._channel import Channel
from chaos.errors import HarnessError, HealFailed
from chaos.faults.base import Evidence
from chaos.faults.network.proxy_state import ProxyState

CALL_TIMEOUT_S = 10.0
"""How long the proxy process may take to answer; it answers in milliseconds unless it is starved or stopped."""


class ProxyProcess:
    """A running proxy process, reached over `channel`; starting and ending it is the caller's business."""

    def __init__(self, channel: Channel) -> None:
        """Use a channel whose other end is `python -m chaos.faults.network.server`."""
        self._channel = channel

    async def add(
        self, name: str, upstream_host: str, upstream_port: int, *, listen_host: str = "127.0.0.1", listen_port: int = 0
    ) -> int:
        """Put a proxy in front of an upstream and return the port it listens on (0: one is chosen).

        Raises HarnessError (RemoteError) for a name or port in use.
        """
        answer = await self.call(
            "add",
            {
                "name": name,
                "upstream_host": upstream_host,
                "upstream_port": upstream_port,
                "listen_host": listen_host,
                "listen_port": listen_port,
            },
        )
        return int(answer["port"])

    async def serve_api(self, port: int = 0) -> int:
        """Have the process serve Toxiproxy's HTTP API over its proxies, on loopback; return the port.

        Raises HarnessError (RemoteError) for a port in use, and when it is served already.
        """
        return int((await self.call("api", {"port": port}))["port"])

    async def remove(self, name: str) -> None:
        """Reset every connection of a proxy and forget it and its faults."""
        await self.call("remove", {"proxy": name})

    async def state(self) -> dict[str, ProxyState]:
        """Return every proxy's state by name."""
        return msgspec.convert(await self.call("state", {}), dict[str, ProxyState])

    async def journal(
        self, name: str, path: Path, *, frames: bool, start_ns: int = 0, tokens: str | None = None
    ) -> None:
        """Have the process write down what happens to a proxy's connections, see `chaos.faults.network.journal`."""
        call = {"proxy": name, "path": str(path), "frames": frames, "start_ns": start_ns, "tokens": tokens}
        await self.call("journal", call)

    def lever(self, name: str) -> ProxyLever:
        """Return the lever of one proxy; whether there is such a proxy shows at the first use."""
        return ProxyLever(self, name)

    async def call(self, op: str, args: Mapping[str, Any]) -> Any:
        """Ask the process. Raises HarnessError when it is gone, does not answer in time, or says no."""
        try:
            return await self._channel.call(op, dict(args), timeout_s=CALL_TIMEOUT_S)
        except TimeoutError as error:
            raise HarnessError(f"the proxy process did not answer {op} within {CALL_TIMEOUT_S:g}s") from error


class ProxyLever:
    """The `NetworkLever` of one proxy."""

    def __init__(self, process: ProxyProcess, name: str) -> None:
        """Act on the proxy `name` of `process`."""
        self._process = process
        self._name = name

    async def inject(self, fault_id: str, kind: str, arguments: Mapping[str, Any]) -> Evidence:
        """Start a fault; it acts on every connection of this proxy when this returns. Raises HarnessError.

        Cancellation: the fault may act all the same; heal `fault_id`.
        """
        call = {"proxy": self._name, "fault_id": fault_id, "kind": kind, "arguments": dict(arguments)}
        return msgspec.convert(await self._process.call("inject", call), dict[str, int])

    async def heal(self, fault_id: str) -> Evidence:
        """Stop a fault and return its counters; {} for an unknown id. Raises HealFailed when it cannot be stopped."""
        try:
            return msgspec.convert(await self._process.call("heal", {"fault_id": fault_id}), dict[str, int])
        except HarnessError as error:
            raise HealFailed(
                f"proxy {self._name}: fault {fault_id} could not be healed: {error}; "
                "end the proxy process, which resets its connections"
            ) from error
