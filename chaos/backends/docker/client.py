"""The connection to a docker daemon: asked for politely, refused in one sentence, and never waited for without end."""

from __future__ import annotations

import asyncio
import functools
import http
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import docker
import requests.exceptions
from docker.errors import APIError, DockerException
from docker.utils import kwargs_from_env

from chaos.backends.docker.sweep import Daemon, DaemonRefused, daemon_address, is_here
from chaos.errors import EnvironmentUnavailable, HarnessError

API_MIN = (1, 41)
"""The oldest version of the daemon's interface that this package was tried with: engine 20.10."""

CALL_TIMEOUT_S = 30.0
"""How long one answer of the daemon may take; most take milliseconds, starting a container half a second."""

_THREADS = 8
_START = "start one (for example: sudo systemctl start docker), or name another with DOCKER_HOST"

P = ParamSpec("P")
T = TypeVar("T")


def demand_daemon() -> dict[str, Any]:
    """Return what the daemon says of itself.

    Raises EnvironmentUnavailable, with the remedy, when there is none, when this user may not use it, when it is
    too old, when its containers are not of Linux, or when it is another machine's.
    """
    address = daemon_address()
    try:
        if not is_here(address):
            raise EnvironmentUnavailable(
                f"the docker daemon at {address} is not known to be on this machine, "
                "and the servers are published on the daemon's loopback only",
                "set DOCKER_HOST to the socket of a daemon that runs here",
            )
        told = Daemon(address).version()
    except ValueError as error:
        raise EnvironmentUnavailable(
            f"{address!r} is not the address of a docker daemon ({error})",
            "set DOCKER_HOST to unix:///PATH or tcp://127.0.0.1:PORT",
        ) from error
    except OSError as error:
        raise EnvironmentUnavailable(*_refusal(address, error)) from error
    api = str(told["ApiVersion"])
    if tuple(int(part) for part in re.findall(r"\d+", api)) < API_MIN:
        needed = ".".join(map(str, API_MIN))
        raise EnvironmentUnavailable(
            f"the docker daemon at {address} is too old: engine {told.get('Version', '?')} speaks API {api}, "
            f"and {needed} is needed",
            "upgrade it to engine 20.10 or later",
        )
    if told.get("Os", "linux") != "linux":
        raise EnvironmentUnavailable(
            f"the docker daemon at {address} runs {told['Os']} containers", "switch it to Linux containers"
        )
    return told


def connect() -> docker.DockerClient:
    """Return a client of the daemon, its version settled with it. Blocks; raises as `demand_daemon` does."""
    demand_daemon()
    address = daemon_address()
    try:
        # Not from_env: it knows DOCKER_HOST only, and the daemon may be the one of the docker command's context.
        tls = kwargs_from_env().get("tls", False)
        return docker.DockerClient(base_url=address, version="auto", timeout=CALL_TIMEOUT_S, tls=tls)
    except (DockerException, ValueError) as error:
        raise EnvironmentUnavailable(
            f"the docker daemon at {address} broke off: {error}", "look at the daemon's log"
        ) from error


def _refusal(address: str, error: OSError) -> tuple[str, str]:
    """Return what to say of a daemon that cannot be used, and the remedy."""
    if isinstance(error, PermissionError) or (
        isinstance(error, DaemonRefused) and error.status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN)
    ):
        return (
            f"this user may not use the docker daemon at {address} ({_words(error)})",
            "add the user to the group docker (sudo usermod -aG docker $USER) and log in again, or run as root",
        )
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return f"no docker daemon runs at {address} ({_words(error)})", _START
    if isinstance(error, TimeoutError):
        return f"the docker daemon at {address} does not answer", "look at the daemon's log, or restart it"
    return f"the docker daemon at {address} cannot be used ({_words(error)})", _START


def _words(error: OSError) -> str:
    return error.strerror or str(error)


def in_words(error: Exception) -> str:
    """Return what the daemon, or the way to it, said; without the client library's wrapping."""
    explanation = getattr(error, "explanation", None)
    return " ".join(str(explanation or error).split())


class Calls:
    """Runs the blocking calls of the docker client in threads of its own.

    A thread cannot be cancelled: a call goes on when its caller is. So `close` waits for what is under way, and only
    then it is known what there is to remove.
    """

    def __init__(self) -> None:
        """Start no thread yet."""
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._pending: set[Future[Any]] = set()

    async def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a thread and return its result; the daemon's errors become a HarnessError."""
        future = self._pool.submit(functools.partial(work, *args, **kwargs))
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        try:
            return await asyncio.wrap_future(future)
        except APIError as error:
            raise DaemonError(int(error.status_code or 0), in_words(error)) from error
        except (DockerException, requests.exceptions.RequestException) as error:
            raise DaemonError(0, in_words(error)) from error

    async def close(self) -> None:
        """Wait until nothing is under way, and end the threads. Idempotent."""
        while self._pending:
            await asyncio.sleep(0.01)
        self._pool.shutdown(wait=False)


class DaemonError(HarnessError):
    """The daemon said no, or nothing; `status` is that of HTTP, 0 when there was no answer."""

    def __init__(self, status: int, text: str) -> None:
        """Say whose words they are."""
        self.status = status
        super().__init__(f"the docker daemon: {text}")
