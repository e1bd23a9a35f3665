"""What `chaos doctor` looks at, one function for each thing: is it here, in which version, how to get it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos.errors import EnvironmentUnavailable

DISTRIBUTION = "chaos-harness"
_PROBE_S = 20.0
_SERVER = re.compile(r"\bserver\b.*\bv=\d|\b(?:redis|valkey|keydb|dragonfly)\b", re.IGNORECASE)
"""What the `--version` of such a server says: "Redis server v=7.2.4 ...", "Valkey server v=9.1.2 ..."."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    state: "ok", "absent" (something optional is not here) or "broken" (it is here, and wrong or in the way).
    needed_for: what cannot run without it. needed: whether the embedded default cannot. remedy: how to get it
    or mend it, empty when all is well.
    """

    name: str
    state: str
    detail: str
    needed_for: str
    needed: bool = False
    remedy: str = ""


def inspect(out: Path) -> Iterator[Finding]:
    """Yield every finding in a fixed order; `out` is where runs would be kept. Starts only short probes."""
    yield python()
    yield machine()
    yield redis_server()
    yield engine("kuzu", "pip install kuzu==0.11.3", needed=True)
    yield engine("ladybug", f"pip install '{DISTRIBUTION}[ladybug]'", needed=False)
    yield file_shim()
    yield tracer()
    yield file_faults()
    yield run_folder(out)
    yield docker_daemon()
    yield toxiproxy()
    yield from shadows()


def python() -> Finding:
    """The interpreter is new enough."""
    detail = f"{platform.python_version()} at {sys.executable}"
    good = sys.version_info >= (3, 11)
    return Finding("Python", "ok" if good else "broken", detail, "everything", True, "use Python 3.11 or later")


def machine() -> Finding:
    """The platform: everywhere but on Linux, file faults and parent-death signals are missing."""
    detail = f"{platform.system()} {platform.release()} {platform.machine()}"
    if sys.platform == "linux":
        return Finding("platform", "ok", detail, "file faults")
    return Finding("platform", "absent", detail, "file faults", False, "run on Linux to inject file faults")


def redis_server() -> Finding:
    """A Redis-compatible server, found in the order that a run would use, and its own word on its version."""
    from chaos.backends.redis_server import find_server

    purpose = "the embedded backend"
    try:
        found = find_server()
    except EnvironmentUnavailable as error:
        return Finding("Redis-compatible server", "absent", error.what, purpose, True, error.remedy)
    version = found.version()
    broken = version.startswith(("does not run", "exit code"))
    if broken or not _SERVER.search(version):
        said = version if broken else f"is no Redis-compatible server; --version says: {version.splitlines()[0]}"
        detail, remedy = f"{found.path} ({found.origin}) {said}", "choose another with CHAOS_REDIS_SERVER"
        return Finding("Redis-compatible server", "broken", detail, purpose, True, remedy)
    return Finding("Redis-compatible server", "ok", f"{version}; {found.path} ({found.origin})", purpose, True)


def engine(name: str, remedy: str, *, needed: bool) -> Finding:
    """A graph engine, really imported, in a process of its own because a broken one may crash."""
    purpose = "the default graph engine" if needed else f"--graph {name}"
    if importlib.util.find_spec(name) is None:
        return Finding(name, "absent", "not installed", purpose, needed, remedy)
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}; print({name}.__version__)"],
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "broken", f"importing it took more than {_PROBE_S:g}s", purpose, needed, remedy)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Finding(name, "broken", f"cannot be imported: {last}", purpose, needed, remedy)
    return Finding(name, "ok", done.stdout.strip(), purpose, needed)


def file_shim() -> Finding:
    """The preload library behind file faults, built from the sources that are here."""
    from chaos.faults.disk import library

    again = "install the package again: pip install -e ."
    available, reason = library.available()
    if not available:
        what, _, remedy = reason.partition("; ")
        return Finding("file shim", "absent", what, "file faults", False, remedy or again)
    if library.stale():
        return Finding("file shim", "broken", "built from other sources than those here", "file faults", False, again)
    return Finding("file shim", "ok", str(library.find()), "file faults")


def tracer() -> Finding:
    """strace, which brings file faults to what nothing can be preloaded into."""
    from chaos.faults.disk import strace

    purpose = "file faults on static programs, or without the shim"
    able, reason = strace.available()
    if not able:
        return Finding("strace", "absent", reason, purpose, False, "install strace 5 or later")
    return Finding("strace", "ok", f"{strace.version()}; {shutil.which('strace')}", purpose)


def file_faults() -> Finding:
    """How file faults would reach each store of a run that is started now."""
    from chaos.experiment.reach import reach
    from chaos.experiment.validate import STORES
    from chaos.faults.disk.mechanisms import NONE

    found = reach(STORES)
    detail = "; ".join(f"{store}: {mechanism}" for store, mechanism in found.items())
    lacking = any(mechanism.name == NONE for mechanism in found.values())
    return Finding("file faults", "absent" if lacking else "ok", detail, "file faults", False, "see the lines above")


def run_folder(out: Path) -> Finding:
    """The folder of run folders can be made and written, tried with a file in it or in its nearest parent."""
    place = out.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        detail = f"{out.absolute()}: cannot write into {place}: {error.strerror or error}"
        return Finding("run folder", "broken", detail, "every run", True, "choose a writable place with --out DIR")
    free_mb = shutil.disk_usage(place).free // 2**20
    return Finding("run folder", "ok", f"{out.absolute()}, {free_mb} MB free", "every run", True)


def docker_daemon() -> Finding:
    """A docker daemon that answers, may be used and is new enough."""
    from chaos.backends.docker.client import demand_daemon

    purpose = "--backend docker and compose"
    try:
        told = demand_daemon()
    except EnvironmentUnavailable as error:
        return Finding("docker", "absent", error.what, purpose, False, error.remedy)
    return Finding("docker", "ok", f"engine {told.get('Version', '?')}, API {told['ApiVersion']}", purpose)


def toxiproxy() -> Finding:
    """The real Toxiproxy server, as a program."""
    from chaos.backends.toxiproxy_server import find_toxiproxy, version_of

    purpose = "--proxy toxiproxy"
    try:
        found = find_toxiproxy()
        version = version_of(found)
    except EnvironmentUnavailable as error:
        return Finding("toxiproxy-server", "absent", error.what, purpose, False, error.remedy)
    return Finding("toxiproxy-server", "ok", f"{version}; {found}", purpose)


def shadows() -> Iterator[Finding]:
    """Another program or distribution that answers to the name `chaos`."""
    purpose = f"the command chaos (python -m chaos and {DISTRIBUTION} always work)"
    strangers = [*_other_programs(), *_other_distributions()]
    for stranger in strangers:
        yield Finding("name chaos", "broken", stranger, purpose, False, f"call {DISTRIBUTION} instead")
    if not strangers:
        yield Finding("name chaos", "ok", "nothing else answers to it", purpose)


def _other_programs() -> Iterator[str]:
    """Yield the programs named chaos on PATH that come before, or instead of, the one beside this interpreter."""
    own = Path(sys.executable).parent / "chaos"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        program = Path(folder) / "chaos"
        if program.exists() and own.exists() and program.samefile(own):
            return
        if program.is_file() and os.access(program, os.X_OK):
            yield f"{program} comes first on PATH"


def _other_distributions() -> Iterator[str]:
    """Yield the other installed distributions that bring a script or a package named chaos."""
    scripts = importlib.metadata.entry_points(group="console_scripts", name="chaos")
    names = {entry.dist.name for entry in scripts if entry.dist is not None}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        names.add(importlib.metadata.distribution("chaos").name)
    for name in sorted(names - {DISTRIBUTION}):
        yield f"distribution {name} brings a script or package of that name too"
