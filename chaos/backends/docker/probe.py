"""Asking a Redis-compatible server through a Toxiproxy: does it answer, what is it, what holds its database."""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_fixed

from chaos.errors import EnvironmentUnavailable

READY_S = 8.0
_ANSWER_S = 1.0
_PROBE_S = 0.02


class Probe:
    """Short questions to one server, each over a connection of its own; nothing is repeated in silence."""

    def __init__(self, host: str, port: int) -> None:
        """Keep the address; nothing is opened yet."""
        self.host = host
        self.port = port

    def client(self) -> redis.asyncio.Redis:
        """Return a client, to be closed by the caller."""
        return redis.asyncio.Redis(
            host=self.host,
            port=self.port,
            socket_timeout=_ANSWER_S,
            socket_connect_timeout=_ANSWER_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    async def wait_ready(self) -> None:
        """Return when a PING was answered; raises EnvironmentUnavailable with the last reason after READY_S."""
        policy = AsyncRetrying(
            retry=retry_if_exception_type((OSError, RedisError)),
            stop=stop_after_delay(READY_S),
            wait=wait_fixed(_PROBE_S),
            sleep=asyncio.sleep,
        )
        try:
            async for attempt in policy:
                with attempt:
                    async with self.client() as client:
                        await client.ping()
        except RetryError as error:
            last = error.last_attempt.exception()
            raise EnvironmentUnavailable(
                f"no answer to PING through the Toxiproxy within {READY_S:g}s ({type(last).__name__}: {last})",
                "look at the logs of the containers",
            ) from error

    async def capabilities(self) -> dict[str, Any]:
        """Return what the server says it is; versions are told, never compared."""
        async with self.client() as client:
            info = await client.info("server")
            waitaof: Any = await client.execute_command("COMMAND", "INFO", "WAITAOF")  # type: ignore[no-untyped-call]  # redis-py leaves it bare
            fsync = await client.config_get("appendfsync")
        return {
            "server": "valkey" if "valkey_version" in info else "redis",
            "version": str(info.get("valkey_version") or info["redis_version"]),
            "waitaof": bool(waitaof and (waitaof[0] if isinstance(waitaof, list) else True)),
            "appendfsync": fsync.get("appendfsync"),
        }
