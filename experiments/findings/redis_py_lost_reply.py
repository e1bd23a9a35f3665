"""One reply is lost, and redis-py does the work twice and reports one success.

A client made as `Redis(host=...)` sends a command again when the connection breaks, whatever the command does. With all
retries off, the helper `transaction()` still does: a lost reply of EXEC comes out of the pipeline as WatchError, the
error for "somebody else changed it", and the helper answers that one by trying again.

What stands between the client and the server here drops the connection once, in place of a reply.
"""

import contextlib
import functools
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chaos import Finding, KnownDefect
from chaos.backends.redis_server import find_server


class LosesOneReply:
    """Passes bytes between clients and a server; the first reply to a request that holds `word` is not passed on."""

    def __init__(self, server: Path, word: bytes) -> None:
        """Begin to listen; `port` is where."""
        self._server, self._word, self._lost = server, word, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(str(self._server))
            while request := client.recv(65536):
                server.sendall(request)
                reply = server.recv(65536)
                if self._word in request and not self._lost:
                    self._lost = True
                    return
                client.sendall(reply)


def default_client(port: int) -> None:
    """Add 1 with a client that has all its defaults."""
    redis.Redis(host="127.0.0.1", port=port).incr("x")


def helper(port: int) -> None:
    """Add 1 with the helper, with retries off."""
    client = redis.Redis(host="127.0.0.1", port=port, retry=Retry(NoBackoff(), 0))
    client.transaction(lambda pipe: (pipe.multi(), pipe.incr("x")), "y")


def steps(add: Callable[[int], None], word: bytes, folder: Path, tell) -> None:
    """Add 1 to a number, and lose the reply."""
    place = folder / "s"
    words = f"--port 0 --unixsocket {place} --dir {folder} --daemonize no".split()
    server = subprocess.Popen([find_server().path, *words, "--save", ""], stdout=subprocess.DEVNULL)
    direct = redis.Redis(unix_socket_path=str(place))
    deadline = time.monotonic() + 10
    while True:
        try:
            direct.ping()
            break
        except redis.ConnectionError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.01)
    try:
        add(LosesOneReply(place, word).port)
    except redis.RedisError:
        return  # the caller is told that it does not know, as it ought to be
    value = int(direct.get("x"))
    server.kill()
    assert value == 1, f"one call that adds 1 returned without an error, and x is {value}"


EXPERIMENTS = [
    Finding(
        id=f"redis-py-{name}-lost-reply",
        hypothesis="A call that adds 1 adds 1 when it reports success.",
        tags=("redis", "network"),
        subject="redis-py",
        steps=functools.partial(steps, add, word),
        expect=KnownDefect(outcome="wrong answer", says="x is 2", versions=("8.1.0",), reason=reason),
    )
    for name, add, word, reason in (
        ("default", default_client, b"INCRBY", "The client repeats every command when the connection breaks."),
        ("transaction", helper, b"EXEC", "A lost reply of EXEC is reported as WatchError, which means: try again."),
    )
]
