"""stdio streams, temporary files, direct calls and copies: what once passed the hooks by, and what taints a log."""

from __future__ import annotations

from pathlib import Path

import pytest
from recording_support import PREAMBLE, Recorder

from chaos.faults.disk.oplog import Kind

pytestmark = pytest.mark.requires("compiler")

STDIO = (
    PREAMBLE
    + """
for name in ("fopen", "fdopen", "freopen", "tmpfile"): getattr(libc, name).restype = ctypes.c_void_p
P = ctypes.c_void_p
def stream(path, mode): return P(libc.fopen(path.encode(), mode.encode()))
def put(file, text): assert libc.fwrite(text, 1, len(text), file) == len(text)
"""
)


def seen(log) -> list[tuple[object, ...]]:
    """Kind, name and bytes of what was recorded after the start."""
    return [(one.kind.name, one.name.removeprefix("store/"), one.payload) for one in log if one.kind is not Kind.ATTACH]


def test_a_stream(recorder: Recorder) -> None:
    """fopen, fwrite, fprintf, fflush, fileno, fseek and fclose on a file in scope are calls on that file."""
    log = recorder.run(
        STDIO
        + """
f = stream(store + "/f", "w")
put(f, b"hello "); libc.fprintf(f, b"%d", 42); assert libc.fflush(f) == 0
assert libc.fsync(libc.fileno(f)) == 0; assert os.fstat(libc.fileno(f)).st_size == 8
libc.fseek(f, ctypes.c_long(1), 0); put(f, b"a"); assert libc.ftell(f) == 2
assert libc.fclose(f) == 0
f = stream(store + "/f", "r"); text = ctypes.create_string_buffer(20)
assert libc.fread(text, 1, 20, f) == 8 and text.value == b"hallo 42" and libc.feof(f); libc.fclose(f)
f = stream(store + "/f", "a+"); put(f, b"!"); libc.fclose(f)
assert stream(store + "/f", "wx").value is None and ctypes.get_errno() == 17
"""
    )
    assert seen(log) == [
        ("OPEN", "f", b""),
        ("WRITE", "f", b"hello 42"),
        ("SYNC", "f", b""),
        ("WRITE", "f", b"a"),
        ("CLOSE", "f", b""),
        ("OPEN", "f", b""),
        ("WRITE", "f", b"!"),
        ("CLOSE", "f", b""),
    ]


def test_a_stream_on_a_descriptor(recorder: Recorder) -> None:
    """Fdopen on a descriptor in scope makes a stream whose writes are seen; a mode that does not fit is refused."""
    log = recorder.run(
        STDIO
        + """
name = ctypes.create_string_buffer((store + "/XXXXXX").encode()); fd = libc.mkstemp(name)
f = P(libc.fdopen(fd, b"w")); assert libc.fileno(f) == fd
put(f, b"x" * 100000); assert libc.fclose(f) == 0
try: os.fstat(fd); raise SystemExit(3)
except OSError: pass
assert libc.fdopen(os.open(store + "/old", os.O_RDONLY), b"w") is None and ctypes.get_errno() == 22
"""
    )
    assert sum(len(one.payload) for one in log) == 100000


def test_streams_elsewhere_are_libcs_own(recorder: Recorder) -> None:
    """A stream outside the root has a real descriptor and works as without the shim."""
    log = recorder.run(
        STDIO
        + """
f = stream(outside + "/f", "w"); put(f, b"text"); assert os.fstat(libc.fileno_unlocked(f)).st_size == 0
assert libc.fileno(f) == libc.fileno_unlocked(f); libc.fclose(f)
assert open(outside + "/f").read() == "text"
f = P(libc.fdopen(os.open(outside + "/f", os.O_RDONLY), b"r")); assert libc.fgetc(f) == ord("t"); libc.fclose(f)
assert stream(outside + "/absent/f", "r").value is None and ctypes.get_errno() == 2
assert stream(store + "/f", "q").value is None and ctypes.get_errno() == 22
"""
    )
    assert seen(log) == []


def test_an_error_in_a_stream(sandbox) -> None:
    """An error on a stream's write reaches the program through ferror and errno; short writes are gone on with."""
    code = (
        STDIO
        + """
f = stream(store + "/f", "w"); libc.setvbuf(f, None, 2, 0)
print(libc.fwrite(b"x" * 10, 1, 10, f), libc.ferror(f)); print(libc.fwrite(b"y", 1, 1, f), libc.ferror(f) != 0, ctypes.get_errno())
"""
    )
    sandbox.arm("short", "write", keep_bytes=3, count=1, rule_id="short")
    sandbox.arm("errno", "write", error="ENOSPC", nth=3)
    done = sandbox.python(code, sandbox.store, sandbox.other, sandbox.root.parent)
    assert done.stdout.splitlines() == ["10 0", "0 True 28"]
    assert sandbox.disarm("short")["calls_shortened"] == 1


@pytest.mark.parametrize("call", ["mkstemp", "mkostemp", "mkstemps", "mkostemps", "mkdtemp"])
def test_temporary_names(recorder: Recorder, call: str) -> None:
    """Files and folders of mkstemp and its kin are new, private, and recorded from their creation."""
    log = recorder.run(
        STDIO
        + f"""
libc.mkdtemp.restype = ctypes.c_char_p
tail = b".txt" if {"temps" in call} else b""
values = ([4] if tail else []) + ([os.O_APPEND] if "mkos" in "{call}" else [])
names = set()
for _ in range(20):
    name = ctypes.create_string_buffer((store + "/t-XXXXXX").encode() + tail)
    result = libc.{call}(name, *values); assert result not in (-1, None)
    names.add(name.value); assert os.stat(name.value).st_mode & 0o77 == 0
    if "{call}" != "mkdtemp": os.write(result, b"x")
assert len(names) == 20
bad = ctypes.create_string_buffer((store + "/XXXXX").encode())
assert libc.{call}(bad, *values) in (-1, None) and ctypes.get_errno() == 22
"""
    )
    kind = Kind.MKDIR if call == "mkdtemp" else Kind.OPEN
    assert sum(one.kind is kind for one in log) == 20


def test_links(recorder: Recorder) -> None:
    """Hard links, symbolic links, and a file that gets its first name by linkat are recorded with both names."""
    log = recorder.run("""
os.link(store + "/old", store + "/hard"); os.symlink("old", store + "/soft"); os.write(create(store + "/hard"), b"x")
fd = os.open(store, os.O_TMPFILE | os.O_RDWR); os.write(fd, b"unnamed")
assert libc.linkat(-100, f"/proc/self/fd/{fd}".encode(), -100, (store + "/late").encode(), 0x400) == 0
os.truncate(store + "/soft", 3)
""")
    names = [(one.kind, one.name, one.other) for one in log if one.kind in {Kind.LINK, Kind.SYMLINK}]
    assert names == [
        (Kind.LINK, "store/old", "store/hard"),
        (Kind.SYMLINK, "store/soft", "old"),
        (Kind.LINK, "", "store/late"),
    ]


def test_direct_calls(recorder: Recorder) -> None:
    """A file call through libc's syscall() is the call of that name; other numbers go through as they came."""
    log = recorder.run("""
import signal
call = libc.syscall
numbers = (257, 1, 18, 75, 77, 263, 3, 39) if OLD else (56, 64, 68, 83, 46, 35, 57, 172)
openat, write, pwrite, fdatasync, ftruncate, unlinkat, close, getpid = numbers
assert call(getpid) == os.getpid()
fd = call(openat, -100, (store + "/f").encode(), os.O_CREAT | os.O_RDWR, 0o600)
assert call(write, fd, b"one", 3) == 3 and call(pwrite, fd, b"two", 3, 5) == 3 and call(fdatasync, fd) == 0
assert call(ftruncate, fd, 4) == 0 and call(close, fd) == 0 and call(write, 999, b"x", 1) == -1
assert ctypes.get_errno() == 9
assert call(unlinkat, -100, (store + "/old").encode(), 0) == 0
""")
    kinds = [one.kind.name for one in log if one.kind is not Kind.ATTACH]
    assert kinds == ["OPEN", "WRITE", "WRITE", "SYNC", "TRUNCATE", "CLOSE", "UNLINK"]


def test_copies_between_files(recorder: Recorder) -> None:
    """Sendfile and copy_file_range are writes of the bytes that they copied, wherever those went."""
    log = recorder.run("""
import shutil
big = create(outside + "/big"); os.write(big, os.urandom(100000)); os.lseek(big, 0, 0)
fd = os.open(store + "/a", os.O_CREAT | os.O_WRONLY); os.write(fd, b"head")
assert os.sendfile(fd, big, 0, 50000) == 50000; os.write(fd, b"tail")
assert os.copy_file_range(big, fd, 9000, 7, 3) == 9000
shutil.copyfile(outside + "/big", store + "/c")
""")
    assert sum(len(one.payload) for one in log if one.kind is Kind.WRITE) == 4 + 50000 + 4 + 9000 + 100000


def test_whole_syncs(recorder: Recorder) -> None:
    """Sync and syncfs are recorded as syncs of everything."""
    log = recorder.run("os.sync(); libc.syncfs(create(store + '/f'))")
    assert sum(one.kind is Kind.SYNC_ALL for one in log) == 2


MMAP = "import mmap; fd = os.open(store + '/{name}', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 4096); mmap.mmap(fd, 4096, {how})"

TAINTS = {
    "map": (MMAP.format(name="old", how="mmap.MAP_SHARED"), "map"),
    "direct": ("os.open(store + '/f', os.O_CREAT | os.O_WRONLY | os.O_DIRECT)", "O_DIRECT"),
    "freopen": (
        STDIO.removeprefix(PREAMBLE) + "libc.freopen((store + '/f').encode(), b'w', stream(outside + '/g', 'w'))",
        "freopen",
    ),
    "splice": ("r, w = os.pipe(); os.write(w, b'x'); os.splice(r, create(store + '/f'), 1)", "splice"),
    "uring": ("libc.syscall(425, 1, ctypes.create_string_buffer(200))", "io_uring"),
    "link-out": ("os.link(store + '/old', outside + '/l')", "border"),
    "stdout": ("subprocess.run(['/bin/true'], stdout=create(store + '/f'))", "standard output"),
}


@pytest.mark.parametrize(("code", "reason"), TAINTS.values(), ids=TAINTS.keys())
def test_what_taints(recorder: Recorder, code: str, reason: str) -> None:
    """What the log cannot follow is recorded as a taint with its reason."""
    if "splice" in code and not hasattr(__import__("os"), "splice"):
        pytest.skip("needs os.splice")
    recorder.forgive = True
    log = recorder.run(code)
    assert [reason in one.other for one in log if one.kind is Kind.TAINT] == [True]


@pytest.mark.parametrize(
    "code",
    [
        MMAP.format(name="m-shm", how="mmap.MAP_SHARED"),
        MMAP.format(name="m", how="mmap.MAP_PRIVATE"),
        MMAP.format(name="m", how="mmap.MAP_SHARED, mmap.PROT_READ"),
        "import mmap; mmap.mmap(-1, 4096)",
    ],
)
def test_maps_that_do_not_taint(recorder: Recorder, code: str) -> None:
    """SQLite's shared memory, private maps, maps for reading and memory without a file leave the log as it is."""
    assert Kind.TAINT not in {one.kind for one in recorder.run(code)}


def test_a_taint_stays_when_the_rest_is_fine(recorder: Recorder, tmp_path: Path) -> None:
    """Without a log nothing is tainted, and nothing recorded."""
    recorder.sandbox.control.stop_recording()
    before = recorder.path.read_bytes()
    recorder.run(TAINTS["map"][0])
    assert recorder.path.read_bytes() == before
    recorder.forgive = True
