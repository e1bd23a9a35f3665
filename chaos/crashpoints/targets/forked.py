"""Processes for one look at a state, made by fork: an interpreter that has imported everything is half of the work.

Call these before the process has a thread. What they start belongs to the session of the process that looks, and dies
with it.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from chaos._channel import SyncChannel
from chaos._process import Child, die_with_parent
from chaos.backends.ports import Reservation
from chaos.backends.redis_server import find_server
from chaos.stores import graph_child
from chaos.stores.graph_launch import StartChild, spawn

_POLL_S = 0.001
_WAIT_S = 10.0
_WORDS_MAX = 300


class ServerEnded(Exception):
    """The server did not begin to serve; the text is the end of what it said."""


class Forked:
    """A child of this process, with what `chaos._process.Child` needs of it."""

    def __init__(self, become: Callable[[], object]) -> None:
        """Fork; the child runs `become`, and ends with it."""
        parent = os.getpid()
        self.pid = os.fork()
        self._status: int | None = None
        if self.pid == 0:
            try:
                die_with_parent(parent)
                become()
            finally:
                os._exit(1)

    def poll(self) -> int | None:
        """Return its status as subprocess does, None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self) -> None:
        """Wait for its end."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended and its pid may be another's."""
        if self.poll() is None:
            os.kill(self.pid, sig)


def graph_children(count: int) -> StartChild:
    """Fork so many graph children that wait for their first request; return what gives them out.

    When they are used up, which an engine that crashes may cause, ordinary ones are started. Their output is that of
    this process.
    """
    waiting: list[tuple[Forked, socket.socket]] = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        inherited = [ours, *(end for _, end in waiting)]
        waiting.append((Forked(lambda: _serve(theirs, inherited)), ours))  # noqa: B023  # it runs in this turn
        theirs.close()

    def start(log: Path) -> tuple[Child, socket.socket]:
        if not waiting:
            return spawn(log)
        process, ours = waiting.pop(0)
        return Child("graph", process), ours

    return start


def _serve(theirs: socket.socket, inherited: list[socket.socket]) -> None:
    """Be a graph child: close the others' ends, or it would never see them close."""
    for end in inherited:
        end.close()
    os._exit(graph_child.Receptionist(SyncChannel(theirs)).serve())


class Server:
    """A Redis-compatible server on a port of its own."""

    def __init__(self, data: Path, appendfsync: str, log: Path, *, rewrites: bool = True) -> None:
        """Start it in `data`, which is made if need be; see `wait`. rewrites: whether it may do so unasked."""
        data.mkdir(exist_ok=True)
        self._said = log
        self._reservation = Reservation()
        options = {
            "bind": "127.0.0.1",
            "port": str(self._reservation.port),
            "dir": str(data),
            "appendonly": "yes",
            "appendfsync": appendfsync,
            "save": "",
            "daemonize": "no",
        }
        if not rewrites:
            options["auto-aof-rewrite-percentage"] = "0"
        program = str(find_server().path)
        words = [program, *(part for name, value in options.items() for part in (f"--{name}", value))]
        self._process = Forked(lambda: self._become(words))

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return self._reservation.port

    def wait(self) -> None:
        """Wait until it serves. Raises ServerEnded; then it is gone."""
        pause = threading.Event()
        for _ in range(round(_WAIT_S / _POLL_S)):
            if self._process.poll() is not None:
                raise ServerEnded(f"status {self._process.poll()}: {self._last_words()}")
            if self._answers():
                return
            pause.wait(_POLL_S)
        self.kill()
        raise ServerEnded(f"no answer within {_WAIT_S:g} s: {self._last_words()}")

    def stop(self) -> None:
        """End it in peace; it syncs its log."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        self._reservation.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._reservation.close()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _become(self, words: list[str]) -> None:
        output = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.execv(words[0], words)  # noqa: S606  # becoming the program is the purpose; there is no shell

    def _last_words(self) -> str:
        """Return what the server calls serious, behind a "#" in its log, without its advice about the machine."""
        lines = self._said.read_text(errors="replace").splitlines()
        serious = [line.partition(" # ")[2] for line in lines if " # " in line]
        return " ".join(text for text in serious if not text.startswith("WARNING"))[-_WORDS_MAX:]
