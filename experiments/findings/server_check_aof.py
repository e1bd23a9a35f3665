"""valkey's own tool takes a healthy append-only file for damaged, because of a magic word that it does not know.

The append-only file of a server consists of a base, increments and a manifest. Since valkey 9 a base in the RDB format
begins with "VALKEY" where it began with "REDIS". `valkey-check-aof`, which is what the server itself tells an operator
to run when it refuses a log, looks for the old word, reads the base as commands, and gives up. With `--fix` it stops
before it comes to the file that needs it. Given the last increment by itself the tool works.
"""

import subprocess
import sys
import time
from pathlib import Path

import redis

from chaos import Finding, KnownDefect
from chaos.backends.redis_server import find_server


def steps(folder: Path, tell) -> None:
    """Let a server make its log, end it in peace, and ask its tool about the log."""
    program, socket = find_server().path, folder / "s"
    words = f"--port 0 --unixsocket {socket} --dir {folder} --appendonly yes --daemonize no".split()
    server = subprocess.Popen([program, *words, "--save", ""], stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(socket))
    deadline = time.monotonic() + 10
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.01)
    client.set("key", "value")
    client.shutdown(nosave=True)
    server.wait(10)
    # The tool is the server's program under another name.
    name = "valkey-check-aof" if "valkey" in program.name else "redis-check-aof"
    manifest = folder / "appendonlydir" / "appendonly.aof.manifest"
    tool = subprocess.run([name, manifest], executable=program, capture_output=True, text=True, check=False)
    sys.stderr.write(tool.stdout + tool.stderr)
    assert tool.returncode == 0, f"{name} of a healthy log: {tool.stdout.strip().splitlines()[-1]}"


EXPERIMENT = Finding(
    id="server-check-aof",
    hypothesis="The server's own tool finds nothing wrong with a log that the server has closed in peace.",
    tags=("redis",),
    subject="server",
    steps=steps,
    expect=KnownDefect(
        outcome="wrong answer",
        says="base.rdb is not valid",
        versions=("valkey 9.1.2",),
        reason="The tool looks for the magic word REDIS, and the base begins with VALKEY.",
    ),
)
