"""A server that refuses its append-only file, and its own tool."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis.asyncio

from chaos.backends.aof import refuses, set_aside
from chaos.backends.redis_server import RedisServer, find_server
from chaos.errors import EnvironmentUnavailable

pytestmark = pytest.mark.requires("redis")


async def test_a_log_that_ends_in_zeros_is_cut_by_the_servers_own_tool(tmp_path: Path) -> None:
    """The server refuses it with the message that is looked for; once cut, it has what came before the damage."""
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    try:
        child = await server.start()
        async with redis.asyncio.Redis(port=server.port, decode_responses=True) as client:
            await client.set("before", "1")
        await child.kill()
        [log] = (tmp_path / "redis").glob("appendonlydir/*.incr.aof")
        whole = log.stat().st_size
        log.write_bytes(log.read_bytes() + bytes(512))
        with pytest.raises(EnvironmentUnavailable) as caught:
            await server.start()
        assert refuses(str(caught.value))
        assert await server.mend() == 512
        assert log.stat().st_size == whole
        await server.start()
        async with redis.asyncio.Redis(port=server.port, decode_responses=True) as client:
            assert await client.get("before") == "1"
    finally:
        await server.stop()


async def test_nothing_to_mend(tmp_path: Path) -> None:
    """Without a log there is nothing to cut."""
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    assert await server.mend() == 0
    await server.stop()


@pytest.mark.parametrize("lost", ["*.incr.aof", "*.manifest"])
async def test_a_log_that_cannot_be_cut_is_set_aside(tmp_path: Path, lost: str) -> None:
    """A file that was lost or emptied is no matter for the tool; the server starts empty, and the rest is kept."""
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    try:
        child = await server.start()
        async with redis.asyncio.Redis(port=server.port, decode_responses=True) as client:
            await client.set("before", "1")
        await child.kill()
        [file] = (tmp_path / "redis" / "appendonlydir").glob(lost)
        if lost == "*.manifest":
            file.write_bytes(bytes(file.stat().st_size))
        else:
            file.unlink()
        assert await server.mend() == 0
        with pytest.raises(EnvironmentUnavailable) as caught:
            await server.start()
        assert refuses(str(caught.value)), str(caught.value)
        assert server.set_log_aside()
        await server.start()
        async with redis.asyncio.Redis(port=server.port, decode_responses=True) as client:
            assert await client.get("before") is None
        assert list((tmp_path / "redis" / "appendonlydir.refused-1").iterdir())
        assert set_aside(tmp_path) is None
    finally:
        await server.stop()
