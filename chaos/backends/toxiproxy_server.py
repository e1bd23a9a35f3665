"""A real toxiproxy-server as a child process: found, looked at, started, waited for."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_fixed

from chaos._process import Child, spawn_program
from chaos.backends.ports import Reservation
from chaos.backends.toxiproxy import Toxiproxy, ToxiproxyError, demand_version
from chaos.errors import EnvironmentUnavailable

OVERRIDE = "CHAOS_TOXIPROXY"
PROGRAM = "toxiproxy-server"
START_DEADLINE_S = 8.0
_PROBE_S = 0.01
_VERSION_TIMEOUT_S = 5.0


def find_toxiproxy() -> Path:
    """Return the toxiproxy-server to use: the one that CHAOS_TOXIPROXY names, else the one on PATH.

    Raises EnvironmentUnavailable, with the way to get one, when there is none or it is too old. What the variable
    names is never silently replaced by another.
    """
    chosen = os.environ.get(OVERRIDE)
    found = chosen or shutil.which(PROGRAM)
    if not found:
        raise EnvironmentUnavailable(
            f"no {PROGRAM} was found on PATH", f"put a Toxiproxy 2.12 binary there, or set {OVERRIDE} to one"
        )
    path = Path(found).absolute()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise EnvironmentUnavailable(
            f"{OVERRIDE}={chosen} is not a program that can be started",
            f"set it to the path of a {PROGRAM}, or unset it",
        )
    demand_version(version_of(path), str(path))
    return path


def version_of(binary: Path) -> str:
    """Return what `-version` says, without the program's name. Raises EnvironmentUnavailable when it does not run."""
    try:
        done = subprocess.run(
            [binary, "-version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentUnavailable(f"{binary} -version does not run: {error}", "use a Toxiproxy 2.12") from error
    words = done.stdout.split()
    if done.returncode != 0 or "version" not in words[:-1]:
        said = " ".join((done.stdout + done.stderr).split())[:200] or "nothing"
        raise EnvironmentUnavailable(
            f"{binary} -version said {said!r} with exit code {done.returncode}", "use a Toxiproxy 2.12"
        )
    return words[words.index("version") + 1]


class ToxiproxyServer:
    """One server whose API listens on a reserved loopback port. It dies with this process, like every child."""

    def __init__(self, binary: Path, log: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """Reserve the API's port; nothing is started yet. The server writes its JSON lines to `log`."""
        self._binary = binary
        self._log = log
        self._environment = {**(environment or {}), "LOG_LEVEL": "info"}
        self._reservation = Reservation()
        self.child: Child | None = None
        self.client = Toxiproxy(f"http://127.0.0.1:{self._reservation.port}")
        """The client of this server; it answers once `start` has returned."""

    async def start(self) -> Child:
        """Start the server and wait until its API answers.

        Raises EnvironmentUnavailable when it ends or does not answer within START_DEADLINE_S; the end of its log
        is in the message.
        """
        port = str(self._reservation.port)
        command = [str(self._binary), "-host", "127.0.0.1", "-port", port, "-proxy-metrics"]
        child = spawn_program("toxiproxy", command, log=self._log, environment=self._environment)
        self.child = child
        try:
            await self._wait_ready(child)
        except BaseException:
            await child.kill()
            raise
        return child

    async def stop(self) -> None:
        """End the server if it runs, and give the port back. Idempotent."""
        if self.child is not None:
            await self.child.kill()
        self._reservation.close()

    async def _wait_ready(self, child: Child) -> None:
        policy = AsyncRetrying(
            retry=retry_if_exception_type(ToxiproxyError),
            stop=stop_after_delay(START_DEADLINE_S),
            wait=wait_fixed(_PROBE_S),
            sleep=asyncio.sleep,
        )
        try:
            async for attempt in policy:
                with attempt:
                    if child.status is not None:
                        raise EnvironmentUnavailable(
                            f"{self._binary} ended with status {child.status}: {self._log_tail()}",
                            f"start it by hand, or choose another with {OVERRIDE} (log: {self._log})",
                        )
                    await self.client.version()
        except RetryError as error:
            raise EnvironmentUnavailable(
                f"{self._binary} did not answer within {START_DEADLINE_S:g}s: {self._log_tail()}", f"read {self._log}"
            ) from error

    def _log_tail(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"(no log: {error})"
        return " | ".join(line.strip() for line in lines[-4:]) or "(its log is empty)"
