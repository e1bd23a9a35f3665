"""The proxy process of a run serves the HTTP API too, over the same proxies."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chaos._channel import Channel
from chaos._process import Child
from chaos.errors import HarnessError
from chaos.faults.network.client import ProxyProcess


async def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send one request and return status and value."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    top, _, text = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(text) if text else None


async def test_api_and_channel_see_the_same_proxies(spawned: tuple[Channel, Child]) -> None:
    """A proxy that the harness added can be shown, given toxics and deleted over HTTP, and the other way round."""
    process = ProxyProcess(spawned[0])
    port = await process.add("redis", "127.0.0.1", 1)
    api = await process.serve_api()
    with pytest.raises(HarnessError, match="served already"):
        await process.serve_api()
    status, shown = await ask(api, "GET", "/proxies")
    assert status == 200
    assert shown["redis"] == {
        "name": "redis",
        "listen": f"127.0.0.1:{port}",
        "upstream": "127.0.0.1:1",
        "enabled": True,
        "toxics": [],
    }
    assert (await ask(api, "POST", "/proxies/redis/toxics", {"type": "noop"}))[0] == 200
    assert "toxic noop_downstream" in (await process.state())["redis"].faults
    await process.lever("redis").inject("f1", "network.noop", {})
    assert len((await ask(api, "GET", "/proxies/redis/toxics"))[1]) == 1
    assert (await ask(api, "POST", "/reset"))[0] == 204
    assert set((await process.state())["redis"].faults) == {"f1"}
    made = {"name": "other", "upstream": "127.0.0.1:1"}
    assert (await ask(api, "POST", "/proxies", made))[0] == 201
    assert set(await process.state()) == {"redis", "other"}
    with pytest.raises(HarnessError, match="in use"):
        await process.add("other", "127.0.0.1", 1)
    assert (await ask(api, "DELETE", "/proxies/redis"))[0] == 204
    assert await process.lever("redis").heal("f1") == {}
    await process.remove("other")
    assert (await ask(api, "GET", "/proxies"))[1] == {}
