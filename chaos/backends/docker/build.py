"""Making the two local images without pulling anything: programs of this machine, with their libraries, in a tar.

An image made so holds the program, the libraries and the loader that it names (ldd(1)), and bash with its own, so that
a health check can speak to a port; nothing else. What is in it is written into a label, so that the same programs are
not packed twice.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound

from chaos.backends.docker.client import in_words
from chaos.backends.docker.images import LOCAL, REDIS_VARIABLE, TOXIPROXY_VARIABLE
from chaos.backends.redis_server import find_server
from chaos.backends.toxiproxy_server import find_toxiproxy
from chaos.errors import EnvironmentUnavailable

CONTENT_LABEL = "chaos.content"
SERVER_PATH = "/usr/local/bin/valkey-server"
_USER = 999
"""Who runs in the images; the official Redis image uses the same number."""
_LDD_S = 10.0
_LIBRARY = re.compile(r"(?:=>\s*)?(/\S+)\s+\(0x[0-9a-f]+\)")


@dataclass(frozen=True)
class Recipe:
    """What goes into an image: files by their path in it, folders that its user may write, and its configuration."""

    name: str
    files: dict[str, Path]
    folders: tuple[str, ...]
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Built:
    """An image that is there now. `fresh` tells whether it was made just now; `programs` what it was made of."""

    name: str
    id: str
    fresh: bool
    programs: tuple[str, ...]


def recipes() -> tuple[Recipe, ...]:
    """Return the recipes of both images. Raises EnvironmentUnavailable for a program that is not here."""
    return valkey(), toxiproxy()


def valkey() -> Recipe:
    """The Redis-compatible server that the embedded backend uses."""
    server = find_server().path
    files = {SERVER_PATH: server, **_closure(server), **_shell()}
    return Recipe(
        LOCAL[REDIS_VARIABLE],
        files,
        ("/data", "/tmp"),  # noqa: S108  # folders in the image
        (
            f'ENTRYPOINT ["{SERVER_PATH}"]',
            'CMD ["--dir", "/data", "--protected-mode", "no", "--appendonly", "yes"]',
            "EXPOSE 6379",
            "WORKDIR /data",
            f"USER {_USER}:{_USER}",
            _search_path(files),
        ),
    )


def toxiproxy() -> Recipe:
    """A Toxiproxy with its command line where there is one, at the official image's paths."""
    server = find_toxiproxy()
    files = {"/toxiproxy": server, **_closure(server), **_shell()}
    command_line = shutil.which("toxiproxy-cli")
    if command_line:
        files |= {"/toxiproxy-cli": Path(command_line), **_closure(Path(command_line))}
    return Recipe(
        LOCAL[TOXIPROXY_VARIABLE],
        files,
        ("/tmp",),  # noqa: S108  # a folder in the image
        (
            'ENTRYPOINT ["/toxiproxy"]',
            'CMD ["-host=0.0.0.0"]',
            "EXPOSE 8474",
            "ENV LOG_LEVEL=info",
            f"USER {_USER}:{_USER}",
            _search_path(files),
        ),
    )


def build(client: docker.DockerClient, recipe: Recipe) -> Built:
    """Make one image, unless the one that is there holds the same. Blocks for about a second.

    Raises EnvironmentUnavailable when the daemon refuses it.
    """
    packed = _packed(recipe)
    content = hashlib.sha256(packed + "\n".join(recipe.changes).encode()).hexdigest()
    programs = tuple(str(path) for name, path in recipe.files.items() if "/lib" not in name)
    try:
        before = client.images.get(recipe.name)
    except ImageNotFound:
        before = None
    if before is not None and before.labels.get(CONTENT_LABEL) == content:
        return Built(recipe.name, str(before.id), False, programs)
    repository, _, tag = recipe.name.partition(":")
    changes = [*recipe.changes, f"LABEL {CONTENT_LABEL}={content}"]
    try:
        answer = client.api.import_image_from_data(packed, repository=repository, tag=tag, changes=changes)
        _demand_success(recipe.name, answer)
        made = client.images.get(recipe.name)
        if before is not None and before.id != made.id:
            _forget(client, str(before.id))
    except APIError as error:
        raise EnvironmentUnavailable(
            f"the docker daemon refused image {recipe.name} ({in_words(error)})", "look at the daemon's log"
        ) from error
    return Built(recipe.name, str(made.id), True, programs)


def _forget(client: docker.DockerClient, image_id: str) -> None:
    """Remove the image that lost its name to a newer one, unless a container is made of it."""
    try:
        client.images.remove(image_id)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise


def _demand_success(name: str, answer: str) -> None:
    """Look for an error in the daemon's report: it begins to answer with 200 before it knows."""
    for line in answer.splitlines():
        told = json.loads(line) if line.strip() else {}
        if "error" in told:
            raise EnvironmentUnavailable(
                f"the docker daemon could not import image {name} ({told['error']})", "look at the daemon's log"
            )


def _shell() -> dict[str, Path]:
    """Return bash and its libraries."""
    bash = shutil.which("bash")
    if bash is None:
        raise EnvironmentUnavailable("no bash was found for the health checks of the images", "install bash")
    return {"/bin/bash": Path(bash), **_closure(Path(bash))}


def _closure(program: Path) -> dict[str, Path]:
    """Return the libraries and the loader of a program, each under its own path; none for a static one.

    Raises EnvironmentUnavailable when one is missing, and where programs are not those of Linux.
    """
    try:
        magic = program.read_bytes()[:4]
        if magic != b"\x7fELF":
            raise EnvironmentUnavailable(
                f"{program} is not a program of Linux, and containers run nothing else", "build the images on Linux"
            )
        done = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=_LDD_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentUnavailable(f"cannot read the libraries of {program}: {error}", "install ldd") from error
    if "not found" in done.stdout:
        missing = [line.split()[0] for line in done.stdout.splitlines() if "not found" in line]
        raise EnvironmentUnavailable(f"{program} lacks its libraries {', '.join(missing)}", "install them")
    return {found: Path(found) for found in _LIBRARY.findall(done.stdout)}


def _search_path(files: Iterable[str]) -> str:
    """Return the setting that makes the loader find libraries outside of its own folders, such as a wheel's."""
    folders = sorted({str(Path(name).parent) for name in files if ".so" in Path(name).name})
    return f"ENV LD_LIBRARY_PATH={':'.join(folders)}"


def _packed(recipe: Recipe) -> bytes:
    """Return the tar of a recipe: the same bytes for the same files, whenever they were installed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in _parents(recipe.files):
            tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o755))
        for folder in recipe.folders:
            tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o755, owner=_USER))
        for name, path in sorted(recipe.files.items()):
            data = path.read_bytes()
            entry = _entry(name, tarfile.REGTYPE, 0o755)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _parents(names: Iterable[str]) -> Sequence[str]:
    """Return every folder that the files need, parents first."""
    folders = {str(parent) for name in names for parent in Path(name).parents if str(parent) != "/"}
    return sorted(folders)


def _entry(name: str, kind: bytes, mode: int, owner: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.type = kind
    entry.mode = mode
    entry.uid = entry.gid = owner
    return entry
