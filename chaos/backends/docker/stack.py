"""Giving a borrowed compose stack back when the run that borrowed it is dead.

The guardian uses this file without the package, so it imports the standard library only, and files that do the same.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from chaos.backends.docker.database import readable, wait_for
from chaos.backends.docker.sweep import NO_BOUND_BYTES, QUIET_S, Daemon, DaemonRefused, Swept, until_quiet
from chaos.backends.ownership import Owner, owner_of

API_PORT = 8474
"""Port of a Toxiproxy's API in its container."""
LOOPBACK = "127.0.0.1"

_TIMEOUT_S = 10.0
_READY_S = 8.0
_ANOTHER_S = 1.0
"""How long an answer is waited for when the container of the run is gone: another may have its place and its data."""


def restore(note: Mapping[str, Any], address: str | None = None, *, at_once: bool = False) -> Swept:
    """Have Redis run, plugged in and unbounded, and remove the run's proxies, its data and its settings.

    `note` is what `chaos.backends.docker.compose` wrote before it changed anything. `at_once`: the run has died just
    now, so that all in its database is its own; later on somebody else may have written there, and only what a run
    can have made is removed. A stack that a living run has by now is left to it. Idempotent; whatever fails is told
    in `stuck` and keeps nothing else from being tried. Raises OSError when the daemon does not answer.
    """
    return until_quiet(_Lent(Daemon(address), note, at_once=at_once).look, QUIET_S if at_once else 0)


def holder(note: Mapping[str, Any], address: str | None = None) -> Owner | None:
    """Return the living run that has the stack of `note` by now; None when there is none, or it cannot be known."""
    try:
        toxiproxy = _Toxiproxy.of(_inspect(Daemon(address), note["proxy_container"]))
        return toxiproxy.holder(note["owner"]) if toxiproxy is not None else None
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return None


def published(container: Mapping[str, Any]) -> dict[int, int]:
    """Return the published TCP ports: the container's, with this machine's."""
    found = {}
    for inside, outside in (container["NetworkSettings"]["Ports"] or {}).items():
        number, _, protocol = inside.partition("/")
        if protocol == "tcp" and outside:
            found[int(number)] = int(outside[0]["HostPort"])
    return found


class _Toxiproxy:
    """The API of the stack's Toxiproxy, as little of it as is needed here."""

    def __init__(self, ports: Mapping[int, int]) -> None:
        self._ports = ports

    @classmethod
    def of(cls, container: Mapping[str, Any] | None) -> _Toxiproxy | None:
        """Return the Toxiproxy of a container as it is reached now; None when it does not run or is not published."""
        ports = published(container) if container is not None and container["State"]["Running"] else {}
        return cls(ports) if API_PORT in ports else None

    def holder(self, mark: str) -> Owner | None:
        """Return the owner of a proxy here that may be alive, and is not the one of `mark`; None without an answer."""
        try:
            owners = [owner_of(name) for name in self.proxies()]
        except OSError:
            return None
        return next((one for one in owners if one and one.mark != mark and one.state != "dead"), None)

    def proxies(self) -> dict[str, Any]:
        """Return all proxies by name."""
        return dict(self._ask("GET", "/proxies", 200) or {})

    def remove(self, name: str) -> bool:
        """Remove a proxy, and so its toxics; True when there was one."""
        return self._ask("DELETE", f"/proxies/{quote(name, safe='')}", 204, 404) is not None

    def way_to(self, name: str, upstream: str) -> int:
        """Return this machine's port of a proxy, which is made when a Toxiproxy that was restarted has lost it."""
        proxies = self.proxies()
        taken = {int(one["listen"].rpartition(":")[2]) for one in proxies.values()}
        if name in proxies:
            inside = int(proxies[name]["listen"].rpartition(":")[2])
        else:
            inside = min(set(self._ports) - taken - {API_PORT}, default=0)
            if not inside:
                raise OSError("the stack's Toxiproxy publishes no port that is free")
            body = {"name": name, "listen": f"0.0.0.0:{inside}", "upstream": upstream, "enabled": True}
            self._ask("POST", "/proxies", 201, body=body)
        return self._ports[inside]

    def _ask(self, method: str, path: str, *good: int, body: Any = None) -> Any:
        """Return the answer, "" for an empty one, None for a 404 that is as good as any; raises OSError."""
        connection = http.client.HTTPConnection(LOOPBACK, self._ports[API_PORT], timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"what answers is not a Toxiproxy ({type(error).__name__})") from error
        finally:
            connection.close()
        if answer.status not in good:
            raise DaemonRefused(answer.status, f"the stack's Toxiproxy: {text.decode(errors='replace').strip()}")
        if answer.status == http.HTTPStatus.NOT_FOUND:
            return None
        return json.loads(text) if text.strip() else ""


def _inspect(daemon: Daemon, container: str) -> dict[str, Any] | None:
    """Return what the daemon says of a container; None when it is gone, and there is nothing of it to give back."""
    try:
        return dict(daemon.call("GET", f"/containers/{container}/json"))
    except DaemonRefused as error:
        if error.status == http.HTTPStatus.NOT_FOUND:
            return None
        raise


class _Lent:
    """The stack of a note while it is given back."""

    def __init__(self, daemon: Daemon, note: Mapping[str, Any], *, at_once: bool) -> None:
        self._daemon = daemon
        self._note = note
        self._at_once = at_once
        self._taken_out = False

    def look(self) -> Swept:
        """Undo what is not undone yet."""
        swept = Swept()
        redis, other = (_inspect(self._daemon, self._note[what]) for what in ("container", "proxy_container"))
        toxiproxy = _Toxiproxy.of(other)
        owner = toxiproxy.holder(self._note["owner"]) if toxiproxy is not None else None
        if owner is not None:
            if not self._taken_out:
                swept.stuck.append(f"the stack is in use by process {owner.pid}, whose run is going on")
            return swept
        if redis is not None:
            # First: a Toxiproxy that dials a server which is off the network removes no proxy until it is back.
            self._mend(redis, swept, start=toxiproxy is not None)
        if toxiproxy is not None and not self._taken_out:
            told = self._take_out(toxiproxy, _READY_S if redis is not None else _ANOTHER_S)
            swept.removed += told.removed
            swept.spared += told.spared
            if redis is not None:
                swept.stuck += told.stuck
            self._taken_out = not swept.stuck
        elif redis is not None and other is not None and not self._taken_out:
            swept.stuck.append(
                "the stack's Toxiproxy is down, so that the database cannot be reached; "
                "start the stack again (docker compose up), then run `chaos heal`"
            )
        return swept

    def _mend(self, redis: Mapping[str, Any], swept: Swept, *, start: bool) -> None:
        """Undo what holds the container, one thing after the other; `start` it if it is down."""
        note = self._note
        container = f"/containers/{note['container']}"
        wishes: list[tuple[bool, str, str, Any]] = [
            (redis["State"]["Paused"], "pause", f"{container}/unpause", None),
            (
                note["network"] not in redis["NetworkSettings"]["Networks"],
                "disconnection",
                f"/networks/{quote(note['network'], safe='')}/connect",
                {
                    "Container": note["container"],
                    "EndpointConfig": {
                        "Aliases": note["aliases"],
                        "IPAMConfig": {"IPv4Address": note["address"] or ""},
                    },
                },
            ),
            (
                redis["HostConfig"]["Memory"] not in (note["memory"], note["memory"] or NO_BOUND_BYTES),
                "memory limit",
                f"{container}/update",
                {"Memory": note["memory"] or NO_BOUND_BYTES, "MemorySwap": note["swap"] or NO_BOUND_BYTES},
            ),
            (start and not redis["State"]["Running"], "stop", f"{container}/start", None),
        ]
        for needed, what, path, body in wishes:
            if needed:
                name = redis["Name"].lstrip("/")
                _try(swept, f"{what} of container {name}", partial(_post, self._daemon, path, body))

    def _take_out(self, toxiproxy: _Toxiproxy, within_s: float) -> Swept:
        """Remove the run's proxies, and between them its data: nothing may flow in behind, and one is the way there."""
        told = Swept()
        control, upstream = self._note["control"]
        for name in self._note["proxies"]:
            if name != control:
                _try(told, f"proxy {name}", partial(toxiproxy.remove, name))
        try:
            self._clean(toxiproxy.way_to(control, upstream), told, within_s)
        except (OSError, ValueError) as error:
            told.stuck.append(f"the data of the run: {error}")
        _try(told, f"proxy {control}", partial(toxiproxy.remove, control))
        return told

    def _clean(self, port: int, told: Swept, within_s: float) -> None:
        """Remove what the run has in the database, and give the server its own settings back."""
        with wait_for(LOOPBACK, port, within_s) as database:
            if database.owner() != self._note["owner"]:
                return
            setting = database.give_settings_back()
            told.removed += [setting] if setting is not None else []
            ours, others = database.sort_keys()
            if self._at_once:
                database.empty()
            else:
                database.remove(ours)
                told.spared += [readable(others)] if others else []
            told.removed.append("data of the run in database 0")


def _post(daemon: Daemon, path: str, body: Any) -> bool:
    daemon.call("POST", path, body=body)
    return True


def _try(swept: Swept, what: str, work: Callable[[], bool]) -> None:
    """Do one thing and write down under `what` that it was done (True), or why it was not."""
    try:
        if work():
            swept.removed.append(what)
    except (OSError, http.client.HTTPException) as error:
        swept.stuck.append(f"{what}: {error}")
