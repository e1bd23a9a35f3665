"""Compile the file shim. Also loaded by path from hatch_build.py, so it imports nothing but the standard library.

The compiler is the first of `CC`, cc, gcc, clang that can compile the shim's headers, then the one inside the
`ziglang` package when that is installed. A compiler without the kernel's headers counts as none.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "shim"
LIBRARY_NAME = "chaosfs.so"
MACHINES = ("x86_64", "aarch64")

FLAGS = (
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Werror",
    "-O2",
    "-fPIC",
    "-ffreestanding",
    "-fvisibility=hidden",
    "-ftls-model=initial-exec",  # a preloaded library has its place in static TLS; anything else calls into libc
    "-fno-stack-protector",  # its failure handler would be a libc symbol
    "-U_FORTIFY_SOURCE",
    "-shared",
    "-nostdlib",  # so that one library serves glibc and musl: it names no library that it needs
)
_MACHINE_FLAGS = {"aarch64": ("-mno-outline-atomics",)}  # else atomics are calls into the compiler's own library
_TIMEOUT_S = 300.0
_PROBE = '#include "kernel.h"\n#include <stdatomic.h>\n#include <stdarg.h>\nint probe(void) { return 0; }\n'


class BuildFailed(Exception):
    """The shim could not be compiled; the message holds the command and all the compiler said."""


def source_files() -> list[Path]:
    """List the shim's sources and headers in a fixed order."""
    return sorted(path for path in SOURCES.iterdir() if path.suffix in {".c", ".h", ".def"})


def source_hash() -> str:
    """Return the SHA-256, in hex, of the sources with their names: what a built library carries inside."""
    digest = hashlib.sha256()
    for path in source_files():
        text = path.read_bytes()
        digest.update(f"{path.name} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()


def supported() -> tuple[bool, str]:
    """Tell whether this system can have the shim at all, and the reason if not."""
    if sys.platform != "linux":
        return False, f"the file shim needs Linux; this is {sys.platform}"
    machine = platform.machine()
    if machine not in MACHINES:
        return False, f"the file shim knows {' and '.join(MACHINES)}; this machine is {machine}"
    return True, ""


def _candidates() -> Iterator[list[str]]:
    configured = shlex.split(os.environ.get("CC", ""))
    if configured:
        yield configured
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            yield [name]


def _works(compiler: Sequence[str]) -> bool:
    """Tell whether `compiler` turns a file with the shim's includes into a shared library."""
    with tempfile.TemporaryDirectory(prefix="chaosfs-probe-") as folder:
        probe = Path(folder, "probe.c")
        probe.write_text(_PROBE)
        command = [*compiler, *FLAGS, "-I", str(SOURCES), "-o", str(Path(folder, "probe.so")), str(probe)]
        try:
            return subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


def find_system_compiler() -> list[str] | None:
    """Return the command of a C compiler of this system that can build the shim, None when there is none."""
    return next((command for command in _candidates() if _works(command)), None)


def zig_compiler(machine: str) -> list[str]:
    """Return the command of ziglang's C compiler for `machine`. Raises BuildFailed when ziglang is not installed.

    The target is named, not detected, so that the result is the same on every system. Without a C library to link
    against zig leaves its copy of the kernel's headers out; they are named for it.
    """
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise BuildFailed("no C compiler found (tried CC, cc, gcc, clang and ziglang); install one or ziglang")
    headers = Path(spec.origin).parent / "lib" / "libc" / "include"
    family = {"x86_64": "x86"}.get(machine, machine)
    includes = [f"-isystem{headers / name}" for name in (f"{family}-linux-any", "any-linux-any")]
    # zig adds run-time checks of undefined behaviour that need its own library.
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux", "-fno-sanitize=undefined", *includes]


def _machine_flags(compiler: Sequence[str]) -> tuple[str, ...]:
    """Return what the machine that `compiler` makes code for asks for; this one's when it does not tell."""
    try:
        done = subprocess.run(
            [*compiler, "-dumpmachine"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        target = done.stdout.strip().partition("-")[0]
    except (OSError, subprocess.TimeoutExpired):
        target = ""
    return _MACHINE_FLAGS.get(target or platform.machine(), ())


def find_compiler() -> list[str]:
    """Return the compiler to use, ziglang's as the last resort. Raises BuildFailed when there is none."""
    return find_system_compiler() or zig_compiler(platform.machine())


def build(output_folder: Path, cc: Sequence[str] | None = None) -> Path:
    """Compile the shim into `output_folder`/chaosfs.so and return that path; replaces an older one atomically.

    `cc` is the compiler command (default: `find_compiler`). Raises BuildFailed with the compiler's output.
    """
    usable, reason = supported()
    if not usable:
        raise BuildFailed(reason)
    output_folder.mkdir(parents=True, exist_ok=True)
    target = output_folder / LIBRARY_NAME
    partial = output_folder / f".{LIBRARY_NAME}.{os.getpid()}"
    sources = [str(path) for path in source_files() if path.suffix == ".c"]
    stamp = f'-DCHAOS_SOURCE_SHA256="{source_hash()}"'
    compiler = list(cc or find_compiler())
    command = [*compiler, *FLAGS, *_machine_flags(compiler), stamp, "-o", str(partial), *sources]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{shlex.join(command)}\n{error}") from error
    if done.returncode != 0:
        partial.unlink(missing_ok=True)
        raise BuildFailed(f"{shlex.join(command)}\nended with status {done.returncode}\n{done.stdout}{done.stderr}")
    partial.replace(target)
    return target
