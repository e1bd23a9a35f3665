"""The operation log: what is recorded, in which order, and that nothing a program does to it or dies of spoils it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from recording_support import PREAMBLE, Recorder
from tests_support import wait_until

from chaos.errors import HarnessError
from chaos.faults.disk.oplog import DATA_ONLY, UNNAMED, Kind, Operation, encode, marker_path, read_log, write_log
from chaos.faults.disk.replay import FolderState

pytestmark = pytest.mark.requires("compiler")

VICTIM = Path(__file__).parent / "victims" / "beats.c"


def brief(operations: list[Operation]) -> list[tuple[object, ...]]:
    """The records in short, without those of the program's start."""
    return [
        (one.kind.name, one.name.removeprefix("store/"), one.offset, one.payload)
        for one in operations
        if one.kind is not Kind.ATTACH
    ]


def test_a_file_from_open_to_close(recorder: Recorder) -> None:
    """Each change has its record, with offsets that the program never named and the bytes it wrote."""
    log = recorder.run("""
fd = create(store + "/f")
os.write(fd, b"one"); os.write(fd, b"two"); os.pwrite(fd, b"X", 1); os.writev(fd, [b"a", b"", b"bc"])
os.fdatasync(fd); os.fsync(fd); os.ftruncate(fd, 4); os.read(fd, 1); os.close(fd)
""")
    assert brief(log) == [
        ("OPEN", "f", None, b""),
        ("WRITE", "f", 0, b"one"),
        ("WRITE", "f", 3, b"two"),
        ("WRITE", "f", 1, b"X"),
        ("WRITE", "f", 6, b"abc"),
        ("SYNC", "f", None, b""),
        ("SYNC", "f", None, b""),
        ("TRUNCATE", "f", None, b""),
        ("CLOSE", "f", None, b""),
    ]
    attach, opened, *rest = log
    assert attach.name == os.path.realpath(sys.executable)
    assert opened.flags & (os.O_CREAT | os.O_RDWR) == os.O_CREAT | os.O_RDWR
    assert {one.handle for one in rest} == {opened.clock}
    assert [one.flags for one in rest if one.kind is Kind.SYNC] == [DATA_ONLY, 0]
    assert next(one.size for one in rest if one.kind is Kind.TRUNCATE) == 4


def test_names(recorder: Recorder) -> None:
    """Folders, renames and deletions are recorded with both names; a folder's own sync ends in a slash."""
    log = recorder.run("""
os.mkdir(store + "/d"); os.close(create(store + "/d/f")); os.rename(store + "/d", store + "/e")
libc.renameat2(-100, (store + "/e/f").encode(), -100, (store + "/old").encode(), 2)
os.unlink(store + "/e/f"); libc.remove((store + "/e").encode()); os.truncate(store + "/old", 1)
os.mkdir(store + "/g"); os.rmdir(store + "/g"); os.fsync(os.open(store, os.O_RDONLY))
""")
    names = [(one.kind.name, one.name, one.other) for one in log if one.kind is not Kind.ATTACH]
    assert names == [
        ("MKDIR", "store/d", ""),
        ("OPEN", "store/d/f", ""),
        ("CLOSE", "store/d/f", ""),
        ("RENAME", "store/d", "store/e"),
        ("RENAME", "store/e/f", "store/old"),
        ("UNLINK", "store/e/f", ""),
        ("RMDIR", "store/e", ""),
        ("TRUNCATE", "store/old", ""),
        ("MKDIR", "store/g", ""),
        ("RMDIR", "store/g", ""),
        ("ADOPT", "store/", ""),
        ("SYNC", "store/", ""),
    ]


def test_what_changes_nothing_is_not_recorded(recorder: Recorder) -> None:
    """Calls that fail, calls that only read, and files outside the root leave no record."""
    log = recorder.run("""
fd = os.open(store + "/old", os.O_RDONLY); os.read(fd, 3); os.pread(fd, 3, 1)
for call in (lambda: os.write(fd, b"x"), lambda: os.unlink(store + "/absent"), lambda: os.mkdir(store)):
    try: call()
    except OSError: pass
os.close(fd)
fd = create(outside + "/f"); os.write(fd, b"x"); os.fsync(fd)
""")
    assert {one.kind for one in log} <= {Kind.ATTACH, Kind.ADOPT, Kind.CLOSE}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(
            "fd = create(store + '/old', os.O_APPEND); os.write(fd, b'ab'); os.pwrite(fd, b'c', 0); os.lseek(fd, 0, 0); os.write(fd, b'd')",
            [(10, b"ab"), (12, b"c"), (13, b"d")],
            id="append",
        ),
        pytest.param(
            "fd = create(store + '/old'); fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND); os.pwrite(fd, b'c', 0)",
            [(10, b"c")],
            id="append-later",
        ),
        pytest.param(
            "fd = create(store + '/old'); copy = os.dup(fd); fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND); os.pwrite(copy, b'c', 0)",
            [(10, b"c")],
            id="append-through-a-copy",
        ),
        pytest.param(
            "fd = create(store + '/old'); os.pwritev(fd, [b'c'], 0, 16); os.pwritev(fd, [b'd'], 3)",
            [(10, b"c"), (3, b"d")],
            id="append-by-flag",
        ),
        pytest.param(
            "fd = create(store + '/old'); os.lseek(fd, 4, 0); os.write(fd, b'a'); os.read(fd, 2); os.write(fd, b'b')",
            [(4, b"a"), (7, b"b")],
            id="position",
        ),
        pytest.param(
            "fd = create(store + '/old', os.O_TRUNC); os.write(fd, b'a'); os.posix_fallocate(fd, 0, 9); os.pwrite(fd, b'b', 20)",
            [(0, b"a"), (20, b"b")],
            id="truncated-at-open",
        ),
        pytest.param("fd = create(store + '/old'); os.writev(fd, [b'ab'] * 300)", [(0, b"ab" * 300)], id="many-parts"),
    ],
)
def test_offsets(recorder: Recorder, code: str, expected: list[tuple[int, bytes]]) -> None:
    """A write's record says where the bytes really went."""
    log = recorder.run(code)
    assert [(one.offset, one.payload) for one in log if one.kind is Kind.WRITE] == expected


@pytest.mark.parametrize(("flag", "data_only"), [("O_DSYNC", True), ("O_SYNC", False)])
def test_synchronous_files(recorder: Recorder, flag: str, data_only: bool) -> None:
    """A write to a file opened for synchronous writes is a sync too."""
    log = recorder.run(f"fd = create(store + '/f', os.{flag}); os.write(fd, b'x')")
    assert [one.kind for one in log[-2:]] == [Kind.WRITE, Kind.SYNC]
    assert bool(log[-1].flags & DATA_ONLY) is data_only
    log = recorder.run(f"fd = create(store + '/f'); os.pwritev(fd, [b'x'], 0, os.RWF_{flag[2:]})")
    assert [one.kind for one in log[-2:]] == [Kind.WRITE, Kind.SYNC]
    assert bool(log[-1].flags & DATA_ONLY) is data_only


def test_allocation(recorder: Recorder) -> None:
    """Every mode of fallocate that the file system has is replayed to the same bytes."""
    log = recorder.run("""
fd = create(store + "/f"); os.write(fd, bytes(range(256)) * 64)
for mode, offset, size in ((0, 0, 20000), (1, 0, 30000), (3, 100, 500), (16, 1000, 30), (8, 4096, 4096), (32, 4096, 4096)):
    libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size))
""")
    assert (Kind.ALLOCATE, 3) in {(one.kind, one.flags) for one in log}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("fd = os.dup(create(store + '/f'))", id="dup"),
        pytest.param("os.dup2(create(store + '/f'), 50); fd = 50", id="dup2"),
        pytest.param("fd = fcntl.fcntl(create(store + '/f'), fcntl.F_DUPFD, 60)", id="fcntl"),
    ],
)
def test_copies_are_one_open_file(recorder: Recorder, code: str) -> None:
    """What is written through a copy of a descriptor carries the handle of the open."""
    log = recorder.run(code + "; os.write(fd, b'x')")
    opened = next(one for one in log if one.kind is Kind.OPEN)
    assert [one.handle for one in log if one.kind is Kind.WRITE] == [opened.clock]


def test_adoption(recorder: Recorder) -> None:
    """A descriptor that no hook opened is adopted at its first change, under the name the file has then."""
    log = recorder.run("""
name = ctypes.create_string_buffer((store + "/old").encode())
fd = raw(257 if OLD else 56, -100, ctypes.addressof(name), os.O_RDWR)
os.rename(store + "/old", store + "/new"); os.pwrite(fd, b"x", 0); os.pwrite(fd, b"y", 1)
os.unlink(store + "/new"); copy = raw(32 if OLD else 23, fd); os.pwrite(copy, b"z", 2)
""")
    adopted = [one for one in log if one.kind is Kind.ADOPT]
    assert [(one.name, one.flags, one.size) for one in adopted] == [("store/new", 0, 10), ("store/new", UNNAMED, 10)]
    writes = [one.handle for one in log if one.kind is Kind.WRITE]
    assert writes == [adopted[0].clock, adopted[0].clock, adopted[1].clock]


def test_links_into_the_root(recorder: Recorder) -> None:
    """A file opened for writing through a link from outside is recorded under its real name, truncation included."""
    log = recorder.run("os.symlink(store, outside + '/l'); os.write(create(outside + '/l/old', os.O_TRUNC), b'x')")
    assert [one.name for one in log if one.kind is Kind.OPEN] == ["store/old"]


def test_rename_across_the_border_taints(recorder: Recorder) -> None:
    """A file that leaves the root cannot be told by a log of the root, and the log says so."""
    log = recorder.run(
        "os.rename(create and store + '/old', outside + '/old'); os.rename(outside + '/old', store + '/old')"
    )
    assert [one.kind for one in log if one.kind is not Kind.ATTACH] == [Kind.TAINT, Kind.TAINT]
    assert "renamed" in log[-1].other


def test_marker(recorder: Recorder) -> None:
    """Deleting the magic path succeeds, deletes nothing, and leaves its text in the log; without a log it is harmless."""
    path = marker_path(recorder.sandbox.root, "acknowledged 7")
    recorder.sandbox.control.stop_recording()
    recorder.run(f"os.unlink({str(path)!r})")
    recorder.sandbox.control.record(recorder.path.with_name("second"))
    recorder.path = recorder.path.with_name("second")
    log = recorder.run(f"os.unlink({str(path)!r}); os.remove({str(path)!r})")
    assert [(one.kind, one.name) for one in log[1:]] == [(Kind.MARKER, "acknowledged 7")] * 2


HOSTILE = {
    "descriptors": "assert not any(os.readlink('/proc/self/fd/' + n).endswith('.log') for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n))",
    "close_range": "os.closerange(3, 5000)",
    "fork": "pid = os.fork()\nif not pid: os.closerange(3, 5000); os.write(create(store + '/c'), b'x'); os._exit(0)\nos.waitpid(pid, 0)",
    "exec": "subprocess.run([sys.executable, '-c', 'import os, sys; os.write(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR), b\"x\")', store + '/c'], check=True)",
    "spawn": "fd = create(store + '/s'); os.write(fd, b'1'); subprocess.run(['/bin/true'], stdout=fd, close_fds=True); os.write(fd, b'2')",
    "limit": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_log_survives_the_program(recorder: Recorder, code: str) -> None:
    """Whatever a program does to descriptors, its next write is in the log, and nothing of the log is in its files."""
    log = recorder.run(
        "os.write(create(store + '/a'), b'before')\n" + code + "\nos.write(create(store + '/b'), b'after')"
    )
    assert {b"before", b"after"} <= {one.payload for one in log if one.kind is Kind.WRITE}
    ours = (recorder.path, recorder.sandbox.control.path)
    assert b"CHOP" not in b"".join(
        path.read_bytes() for path in recorder.sandbox.root.parent.glob("*") if path.is_file() and path not in ours
    )


def test_records_larger_than_a_chunk(recorder: Recorder) -> None:
    """A record may lie in several chunks of the log, begin in any place of one, and be followed by small ones."""
    log = recorder.run("""
fd = create(store + "/f")
for size in (1, 3_000_000, 2, 1 << 20, (1 << 20) - 100, 3, 700_001, 4): os.pwrite(fd, bytes([size % 251 + 1]) * size, 0)
""")
    written = [one.payload for one in log if one.kind is Kind.WRITE]
    sizes = (1, 3_000_000, 2, 1 << 20, (1 << 20) - 100, 3, 700_001, 4)
    assert written == [bytes([size % 251 + 1]) * size for size in sizes]


def test_a_child_records_as_itself(recorder: Recorder) -> None:
    """After a fork the child's records carry its own process, and the handle it inherited."""
    log = recorder.run("""
fd = create(store + "/f")
pid = os.fork()
if not pid: os.write(fd, b"child"); os._exit(0)
os.waitpid(pid, 0); os.write(fd, b"parent"); print(pid)
""")
    child, parent = (one for one in log if one.kind is Kind.WRITE)
    assert (child.payload, parent.payload, parent.offset) == (b"child", b"parent", 5)
    assert child.handle == parent.handle
    assert child.pid != parent.pid


def test_a_vfork_child_leaves_its_parent_alone(recorder: Recorder) -> None:
    """Closing in the window between vfork and exec closes nothing of the parent's: its handle stays the same."""
    log = recorder.run("""
fd = create(store + "/f"); os.write(fd, b"1")
subprocess.run(["/bin/true"], close_fds=True); os.write(fd, b"2")
""")
    opened, *writes = (one for one in log if one.kind in {Kind.OPEN, Kind.WRITE})
    assert [one.handle for one in writes] == [opened.clock] * 2
    assert Kind.ADOPT not in {one.kind for one in log}


def test_threads_and_forks_under_load(recorder: Recorder) -> None:
    """Sixteen threads in four processes lose no record, and appends to one file replay to the same bytes."""
    log = recorder.run("""
shared = create(store + "/shared", os.O_APPEND); spot = create(store + "/spot")
def work(number):
    own = create(f"{store}/{os.getpid()}-{number}")
    for turn in range(150):
        text = f"{os.getpid()} {number} {turn};".encode()
        os.write(shared, text); os.pwrite(spot, text, turn % 7); os.write(own, text)
        if turn % 50 == 9: os.ftruncate(spot, 5)
        if turn % 50 == 20: os.rename(f"{store}/{os.getpid()}-{number}", f"{store}/r{os.getpid()}-{number}-{turn}"); own = create(f"{store}/{os.getpid()}-{number}")
children = []
for _ in range(3):
    pid = os.fork()
    if not pid: break
    children.append(pid)
else: pid = 1
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if not pid: os._exit(0)
for child in children: assert os.waitpid(child, 0)[1] == 0
""")
    assert sum(one.kind is Kind.WRITE for one in log) == 4 * 4 * 150 * 3
    assert len({one.clock for one in log}) == len(log)
    assert len({one.pid for one in log if one.kind is Kind.WRITE}) == 4


def birth_of(pid: int) -> int:
    """When a process was born, in clock ticks: what the lock's word holds of it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def hold(sandbox, pid: int, birth: int, pending: Kind) -> None:
    """Let the lock be held by the first thread of a process, in the middle of an operation."""
    sandbox.control._file.holder = (birth & (1 << 20) - 1) << 44 | pid << 22 | pid
    sandbox.control._file.pending = pending


@pytest.mark.parametrize("gone", ["reaped", "zombie", "reused"])
@pytest.mark.parametrize(("pending", "taints"), [(Kind.WRITE, True), (Kind.SYNC, False)])
def test_a_lock_is_inherited(recorder: Recorder, gone: str, pending: Kind, taints: bool) -> None:
    """Whoever finds the lock held by a thread that is gone takes it, cuts off half a record, and tells what may miss."""
    sandbox = recorder.sandbox
    recorder.run("os.write(create(store + '/a'), b'x')")
    with subprocess.Popen(["/bin/sleep", "60"]) as holder:
        birth = birth_of(holder.pid)
        if gone != "reused":
            holder.kill()
            assert wait_until(lambda: " Z " in Path(f"/proc/{holder.pid}/stat").read_text())
        if gone == "reaped":
            holder.wait()
        hold(sandbox, holder.pid, birth + (gone == "reused"), pending)
        with recorder.path.open("ab") as log:
            log.write(encode(recorder.read()[-1])[:50])
        after = recorder.run("os.write(create(store + '/b'), b'y')")
        holder.kill()
    assert [one.payload for one in after if one.kind is Kind.WRITE] == [b"x", b"y"]
    assert [one.kind for one in after].count(Kind.TAINT) == taints


def test_a_living_holder_is_waited_for(recorder: Recorder) -> None:
    """A lock whose holder lives, though it be stopped, is not taken from it."""
    sandbox = recorder.sandbox
    with subprocess.Popen(["/bin/sleep", "60"]) as holder:
        holder.send_signal(signal.SIGSTOP)
        hold(sandbox, holder.pid, birth_of(holder.pid), Kind.WRITE)
        code = "import os, sys; os.write(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR), b'x')"
        with subprocess.Popen([sys.executable, "-c", code, sandbox.store / "f"], env=sandbox.environment) as victim:
            assert wait_until(lambda: sandbox.control._file.waiters == 1)
            with pytest.raises(subprocess.TimeoutExpired):
                victim.wait(0.3)
            sandbox.control._file.holder = 0
            assert victim.wait(10) == 0
        holder.kill()
    assert [one.payload for one in recorder.read() if one.kind is Kind.WRITE] == [b"x"]


def test_a_signal_handler_within_an_operation(recorder: Recorder) -> None:
    """A handler that writes while its own thread holds the lock does not wait for itself; both writes are recorded."""
    log = recorder.run("""
fd = create(store + "/f"); pages = create(store + "/g")
beats = []
def beat(*_): beats.append(os.write(fd, b"beat"))
signal.signal(signal.SIGALRM, beat); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while len(beats) < 50: os.pwrite(pages, b"x" * 100000, 0)
signal.setitimer(signal.ITIMER_REAL, 0)
os.ftruncate(pages, 1)
""")
    assert sum(one.payload == b"beat" for one in log) >= 50


def test_a_signal_handler_within_an_append(recorder: Recorder, compile_program) -> None:
    """Real handlers come in the middle of an append, too, of records longer than the ring among them; none is lost."""
    sandbox = recorder.sandbox
    done = sandbox.run(compile_program(VICTIM), sandbox.store / "pages", sandbox.store / "beats")
    assert done.returncode == 0, done.stderr
    written, beaten = map(int, done.stdout.split())
    log = recorder.read()
    count = Counter(one.name for one in log if one.kind is Kind.WRITE)
    assert count == {"store/pages": written, "store/beats": beaten}
    within = [one.clock for one in log if one.name == "store/beats"]
    assert beaten >= 500
    assert within == sorted(within)


def test_an_exec_that_ends_a_holder(recorder: Recorder) -> None:
    """Exec kills the other threads, one of them perhaps with the lock; the new program, under the same pid, goes on."""
    code = (
        PREAMBLE
        + """
turn = int(sys.argv[4])
def work():
    fd = create(f"{store}/{turn}")
    while True: os.pwrite(fd, b"x" * 300, 0)
for _ in range(3): threading.Thread(target=work, daemon=True).start()
while not os.path.exists(f"{store}/{turn}"): pass
os.write(create(f"{store}/main"), b"y")
if turn: os.execv(sys.executable, [sys.executable, "-c", os.environ["CODE"], *sys.argv[1:4], str(turn - 1)])
os._exit(0)
"""
    )
    sandbox = recorder.sandbox
    environment = {**sandbox.environment, "CODE": code}
    folders = (sandbox.store, sandbox.other, sandbox.root.parent)
    assert sandbox.python(code, *folders, 15, env=environment).returncode == 0
    log = recorder.read()
    assert sum(one.payload == b"y" for one in log) == 16
    forgive_the_killed(recorder)


def test_a_dead_holder_blocks_nobody(recorder: Recorder) -> None:
    """Processes killed at any moment leave a lock that the next one takes over, and a log that can be read."""
    code = (
        PREAMBLE
        + """
fd = create(f"{store}/{os.getpid()}")
def work():
    while True: os.pwrite(fd, b"x" * 5000, 0)
threading.Thread(target=work, daemon=True).start()
work()
"""
    )
    sandbox = recorder.sandbox
    command = [sys.executable, "-c", code, sandbox.store, sandbox.other, sandbox.root.parent]
    for turn in range(6):
        length = recorder.path.stat().st_size
        with (
            subprocess.Popen(command, env=sandbox.environment) as one,
            subprocess.Popen(command, env=sandbox.environment) as two,
        ):
            assert wait_until(lambda length=length: recorder.path.stat().st_size > length + 200_000, 30)
            one.send_signal(signal.SIGKILL)
            one.wait()
            length = recorder.path.stat().st_size
            assert wait_until(lambda length=length: recorder.path.stat().st_size > length + 50_000, 30), turn
            two.send_signal(signal.SIGKILL)
    log = recorder.run("os.write(create(store + '/last'), b'x')")
    assert log[-1].payload == b"x"
    forgive_the_killed(recorder)


def forgive_the_killed(recorder: Recorder) -> None:
    """Leave the files of killed writers out of the comparison where the log says that it misses a call of theirs.

    Those are the files with a number for a name. Without a taint only the last call of all may be missing.
    """
    recorder.sandbox.control.stop_recording()
    log = recorder.read()
    if any(one.kind is Kind.TAINT for one in log):
        for one in recorder.sandbox.store.iterdir():
            if one.name.isdigit():
                one.unlink()
                log.append(Operation(Kind.UNLINK, clock=log[-1].clock + 1, name=f"store/{one.name}"))
        write_log(recorder.path, log)


def test_a_full_disk_of_the_log_is_told(sandbox, tmp_path: Path) -> None:
    """When a record cannot be written, recording ends for all and the harness is told; the program goes on."""
    sandbox.control.record(tmp_path / "log")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))

    code = "import os, sys; fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR); [os.pwrite(fd, b'x' * 300_000, 0) for _ in range(9)]"
    assert sandbox.python(code, sandbox.store / "f", preexec_fn=limit).returncode == 0
    assert not sandbox.control.recording
    with pytest.raises(HarnessError, match="lost 1 records"):
        sandbox.control.stop_recording()
    assert sum(one.kind is Kind.WRITE for one in read_log(tmp_path / "log")) == 2


def test_what_record_refuses(sandbox, tmp_path: Path) -> None:
    """A log within the root, over a file, or beside another one is refused."""
    with pytest.raises(HarnessError, match="must lie outside"):
        sandbox.control.record(sandbox.store / "log")
    with pytest.raises(HarnessError, match="File exists"):
        sandbox.control.record(sandbox.control.path)
    sandbox.control.record(tmp_path / "log")
    with pytest.raises(HarnessError, match="kept already"):
        sandbox.control.record(tmp_path / "log2")
    sandbox.control.stop_recording()
    sandbox.control.stop_recording()
    assert not sandbox.control.recording


def test_a_second_log_knows_nothing_of_the_first(recorder: Recorder) -> None:
    """A descriptor that an earlier log knew is adopted by the next one: handles are of one log."""
    sandbox = recorder.sandbox
    code = (
        PREAMBLE
        + """
fd = create(store + "/f"); os.write(fd, b"1"); print("ready", flush=True); sys.stdin.readline(); os.write(fd, b"2")
"""
    )
    command = [sys.executable, "-c", code, sandbox.store, sandbox.other, sandbox.root.parent]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=sandbox.environment, **pipes) as victim:
        assert victim.stdout.readline() == "ready\n"
        sandbox.control.stop_recording()
        recorder.before, recorder.path = FolderState.read(sandbox.root), recorder.path.with_name("second")
        sandbox.control.record(recorder.path)
        victim.communicate("\n")
    assert brief(recorder.read()) == [("ADOPT", "f", None, b""), ("WRITE", "f", 1, b"2")]
