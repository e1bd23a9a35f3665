"""Finding and removing what runs leave in a docker daemon: containers, networks and volumes, by label only.

Everything that a run makes in a daemon carries three labels: the run, the harness process, and the place where that
process lives (machine and pid namespace: a process number means nothing elsewhere). What carries no such label
is never touched.

The guardian uses this file without the package, so it imports the standard library only and speaks HTTP to the
daemon's socket itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import platform
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

RUN_LABEL = "chaos.run"
HARNESS_LABEL = "chaos.harness"
PLACE_LABEL = "chaos.place"

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104  # an address that users write, not one we bind
NO_BOUND_BYTES = 2**50
"""What is asked for to take a bound of memory away: the daemon takes neither 0 (unchanged) nor -1 (too small)."""

QUIET_S = 1.0
"""How long nothing of a dead run may turn up before it is taken for gone; a daemon makes a network in 0.1 s."""

_MACHINE_ID = Path("/etc/machine-id")
_TIMEOUT_S = 10.0
_TRIES = 20
_PAUSE_S = 0.1
_PASSES = 3
_KINDS = ("container", "network", "volume")
"""In the order of removal: a network or a volume in use cannot be removed."""


class DaemonRefused(OSError):
    """The daemon answered with an error; `status` is that of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        """Keep the daemon's own words."""
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


@dataclass(frozen=True)
class Leftover:
    """Something that a run made in the daemon. `owner` is "dead", "alive", or "elsewhere" when nobody here can tell."""

    kind: str
    name: str
    run: str
    harness: str
    owner: str


@dataclass
class Swept:
    """What a removal did: the names that are gone, those that stay with the reason, and those that were let be."""

    removed: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)


def daemon_address() -> str:
    """Return where the daemon is: DOCKER_HOST, else the docker command's current context, else the usual socket."""
    chosen = os.environ.get("DOCKER_HOST")
    if chosen:
        return chosen
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        name = os.environ.get("DOCKER_CONTEXT") or json.loads((folder / "config.json").read_text())["currentContext"]
        if name != "default":
            digest = hashlib.sha256(name.encode()).hexdigest()
            meta = json.loads((folder / "contexts" / "meta" / digest / "meta.json").read_text())
            return str(meta["Endpoints"]["docker"]["Host"])
    return DEFAULT_ADDRESS


def is_here(address: str) -> bool:
    """Tell whether the daemon is one of this machine, so that 127.0.0.1 there is 127.0.0.1 here."""
    parts = urlsplit(address)
    return parts.scheme == "unix" or (parts.scheme in ("tcp", "http", "https") and parts.hostname in LOOPBACK)


def harness_labels(run_id: str) -> dict[str, str]:
    """Return the labels of everything that this process makes for the run `run_id`."""
    started = start_time(os.getpid()) or "0"
    return {RUN_LABEL: run_id, HARNESS_LABEL: f"{os.getpid()}:{started}", PLACE_LABEL: place()}


def place() -> str:
    """Return what tells this machine and its pid namespace from others that use the same daemon.

    Neither is enough: the first pid namespace has the same number everywhere, and so has many a machine its name.
    """
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = "-"
    return f"{platform.node()}{_machine()}/{namespace}"


def _machine() -> str:
    """Return what stands for this installation of a system; empty where it has no id (machine-id(5))."""
    try:
        text = _MACHINE_ID.read_text().strip()
    except (OSError, ValueError):
        return ""
    # The id itself must not be shown to others, says its manual page.
    return f"/{hashlib.sha256(f'chaos {text}'.encode()).hexdigest()[:8]}" if text else ""


def start_time(pid: int) -> str | None:
    """Return what tells process `pid` from a later one with its number (proc(5), field 22); None when it is gone.

    Where there is no /proc, "0" for every living process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "0"
    return None if fields[0] in "ZX" else fields[19]


def owner_state(harness: str, owner_place: str) -> str:
    """Return what became of the process that a label names: "dead", "alive" or "elsewhere"."""
    pid, _, started = harness.partition(":")
    if owner_place != place() or not pid.isdigit():
        return "elsewhere"
    return "alive" if start_time(int(pid)) == started else "dead"


class Daemon:
    """A docker daemon, asked over its socket; every call opens a connection of its own."""

    def __init__(self, address: str | None = None, timeout_s: float | None = _TIMEOUT_S) -> None:
        """Nothing is opened yet. Raises ValueError for an address that is malformed, or of a kind unknown here."""
        self.address = address or daemon_address()
        self._timeout_s = timeout_s
        self._prefix: str | None = None
        parts = urlsplit(self.address)
        if parts.scheme not in ("unix", "tcp", "http", "https"):
            raise ValueError(f"{self.address} is neither a socket (unix://) nor an address (tcp://)")
        self._host, self._port = parts.hostname or "localhost", parts.port
        try:
            http.client.HTTPConnection(self._host)  # looks at the name, and opens nothing
        except http.client.InvalidURL as error:
            raise ValueError(str(error)) from error

    def version(self) -> dict[str, Any]:
        """Return what the daemon says of itself: Version, ApiVersion, Os ..."""
        answer = self._exchange("GET", "/version")
        if not isinstance(answer, dict) or not isinstance(answer.get("ApiVersion"), str):
            raise DaemonRefused(200, "what answers there is not a docker daemon")
        return answer

    def call(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """Send a request in the newest version that the daemon speaks; return the JSON answer, None when empty.

        Raises OSError: DaemonRefused for an answer that is an error, others when there is no answer.
        """
        return self._exchange(method, self.path(path, query), body)

    def path(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Return a path in the newest version that the daemon speaks; it is asked once."""
        if self._prefix is None:
            self._prefix = f"/v{self.version()['ApiVersion']}"
        return self._prefix + path + (f"?{urlencode(query)}" if query else "")

    def labelled(self, kind: str, label: str) -> list[dict[str, Any]]:
        """Return every object of a kind that carries `label` ("name" or "name=value"), as the daemon lists it."""
        query = {"filters": json.dumps({"label": [label]})}
        match kind:
            case "container":
                return list(self.call("GET", "/containers/json", {**query, "all": "1"}))
            case "network":
                return list(self.call("GET", "/networks", query))
        return list(self.call("GET", "/volumes", query)["Volumes"] or ())

    def remove(self, kind: str, name: str) -> None:
        """Remove one object; one that is gone by now is fine. A container is killed for it, paused or not."""
        path = f"/{kind}s/{quote(name, safe='')}"
        try:
            if kind == "container":
                self.call("DELETE", path, {"force": "1", "v": "1"})
            else:
                self.call("DELETE", path)
        except DaemonRefused as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise

    def _exchange(self, method: str, path: str, body: Any = None) -> Any:
        connection = self.connection()
        headers = {"Host": "docker", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:
            raise DaemonRefused(0, f"what answers there is not a docker daemon ({type(error).__name__})") from error
        finally:
            connection.close()
        text = body.decode(errors="replace")
        value: Any = None
        with contextlib.suppress(ValueError):
            value = json.loads(text) if text.strip() else None
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            told = value.get("message") if isinstance(value, dict) else None
            raise DaemonRefused(answer.status, str(told or text.strip() or answer.reason))
        return value

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection to the daemon that is not open yet."""
        parts = urlsplit(self.address)
        if parts.scheme == "unix":
            return _OverSocket(parts.path or parts.netloc, self._timeout_s)
        if parts.scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY"):
            certificates = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
            context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
            context.load_cert_chain(str(certificates / "cert.pem"), str(certificates / "key.pem"))
            return http.client.HTTPSConnection(self._host, self._port or 2376, timeout=self._timeout_s, context=context)
        return http.client.HTTPConnection(self._host, self._port or 2375, timeout=self._timeout_s)


class _OverSocket(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket in the place of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def leftovers(address: str | None = None) -> list[Leftover]:
    """Return everything in the daemon that a run made, that of living runs too; see `Leftover.owner`.

    Raises OSError when the daemon does not answer.
    """
    daemon = Daemon(address)
    found = []
    for kind in _KINDS:
        for item in daemon.labelled(kind, RUN_LABEL):
            labels = item.get("Labels") or {}
            harness = labels.get(HARNESS_LABEL, "")
            owner = owner_state(harness, labels.get(PLACE_LABEL, ""))
            found.append(Leftover(kind, _name(kind, item), labels[RUN_LABEL], harness, owner))
    return found


def remove(run_id: str, address: str | None = None, *, quiet_s: float = QUIET_S) -> Swept:
    """Remove every container, network and volume of one run and tell what was done. Idempotent.

    A daemon finishes what it was asked for although the one who asked is dead, so it is looked again until nothing
    was found for `quiet_s`; 0 when the run's own requests have all been answered. What cannot be removed at once (a
    network loses its last container a moment later) is tried again for some seconds. Raises OSError when the daemon
    does not answer at all.
    """
    return until_quiet(partial(_remove_once, Daemon(address), run_id), quiet_s)


def until_quiet(look: Callable[[], Swept], quiet_s: float) -> Swept:
    """Look and remove until nothing was found for `quiet_s` (0: once), or something resisted several times."""
    swept = Swept()
    stuck_looks = 0
    quiet_since_s = time.monotonic()
    while True:
        found = look()
        swept.removed += found.removed
        swept.spared += found.spared
        swept.stuck = found.stuck
        stuck_looks += bool(found.stuck)
        if found.removed:
            quiet_since_s = time.monotonic()
        if quiet_s == 0 or stuck_looks == _PASSES:
            return swept
        if not found.stuck and time.monotonic() - quiet_since_s >= quiet_s:
            return swept
        time.sleep(_PAUSE_S)


def _remove_once(daemon: Daemon, run_id: str) -> Swept:
    """Remove what there is of a run at this moment."""
    swept = Swept()
    for kind in _KINDS:
        items = daemon.labelled(kind, f"{RUN_LABEL}={run_id}")
        if not items:
            continue
        names = [_name(kind, item) for item in items]
        keys = [str(item.get("Id") or item["Name"]) for item in items]  # two networks may have one name
        with ThreadPoolExecutor(len(keys)) as pool:  # a daemon removes several containers as quickly as one
            for name, reason in zip(names, pool.map(partial(_insist, daemon, kind), keys), strict=True):
                if reason is None:
                    swept.removed.append(f"{kind} {name}")
                else:
                    swept.stuck.append(f"{kind} {name}: {reason}")
    return swept


def _insist(daemon: Daemon, kind: str, name: str) -> str | None:
    """Remove one object, trying again for a while; return why it stays, None when it is gone."""
    reason = None
    for _ in range(_TRIES):
        try:
            daemon.remove(kind, name)
        except OSError as error:
            reason = str(error)
        else:
            return None
        time.sleep(_PAUSE_S)
    return reason


def _name(kind: str, item: Mapping[str, Any]) -> str:
    return str(item["Names"][0].lstrip("/") if kind == "container" else item["Name"])
