"""Pulling an image, in a way that can be called off at any moment."""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import socket
import threading

import docker
import docker.auth
from docker.utils import parse_repository_tag

from chaos.backends.docker.sweep import Daemon, DaemonRefused

_CALLED_OFF = "the pull was called off"


class Pull:
    """Pulls images one after the other, until it is called off: then none is pulled any more.

    The client library cannot do this: the daemon says nothing until the registry answers, and whoever waits in the
    library for its first word cannot be reached. The daemon gives up by itself when it notices that nobody listens.
    """

    def __init__(self) -> None:
        """Nothing is asked for yet."""
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._called_off = False

    def call_off(self) -> None:
        """End what is under way, and refuse what comes. May be called from any thread; idempotent."""
        with self._lock:
            self._called_off = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # the daemon was quicker
                    self._socket.shutdown(socket.SHUT_RDWR)

    def __call__(self, client: docker.DockerClient, name: str) -> None:
        """Pull an image; blocks as long as that takes. Raises OSError with the words of the daemon or the registry."""
        repository, tag = parse_repository_tag(name)
        registry, _ = docker.auth.resolve_repository_name(repository)
        secret = docker.auth.get_config_header(client.api, registry)
        headers = {"X-Registry-Auth": secret} if secret else {}
        daemon = Daemon(timeout_s=None)
        path = daemon.path("/images/create", {"fromImage": repository, "tag": tag or "latest"})
        connection = daemon.connection()
        try:
            connection.connect()
            self._hold(connection.sock)
            connection.request("POST", path, headers=headers)
            _read(connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise OSError(_CALLED_OFF if self._called_off else str(error)) from error
        finally:
            self._hold(None)
            connection.close()
        if self._called_off:
            raise OSError(_CALLED_OFF)

    def _hold(self, sock: socket.socket | None) -> None:
        """Keep what `call_off` needs to reach the reader. Raises OSError when it has been called off before."""
        with self._lock:
            self._socket = sock
            if sock is not None and self._called_off:
                raise OSError(_CALLED_OFF)


def _read(answer: http.client.HTTPResponse) -> None:
    """Read what the daemon tells of a pull, to its end; an error may come in any line."""
    if answer.status != http.HTTPStatus.OK:
        told = json.loads(answer.read())
        raise DaemonRefused(answer.status, str(told.get("message")))
    for line in answer:
        told = json.loads(line) if line.strip() else {}
        if told.get("error"):
            raise DaemonRefused(answer.status, str(told["error"]))
