"""A folder's contents as plain values: where a model starts, what a state is, and what is written out of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from chaos.crashpoints.content import DIGEST_BYTES, Content


@dataclass(frozen=True, slots=True)
class Tree:
    """Paths relative to the folder: files with their bytes, folders (without the root), symbolic links."""

    files: Mapping[str, Content] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        """The hash of all names and contents."""
        hashed = blake2b(digest_size=DIGEST_BYTES)
        for path in sorted(self.files):
            hashed.update(b"f%s\0%s" % (os.fsencode(path), self.files[path].digest))
        for path in sorted(self.folders):
            hashed.update(b"d%s\0" % os.fsencode(path))
        for path in sorted(self.links):
            hashed.update(b"l%s\0%s\0" % (os.fsencode(path), os.fsencode(self.links[path])))
        return hashed.digest()

    def kept(self) -> Tree:
        """Return the same with bytes of its own, for use after the model has moved on."""
        files = {path: content.kept() for path, content in self.files.items()}
        return Tree(files, self.folders, dict(self.links))

    def without(self, ignored: Callable[[str], bool]) -> Tree:
        """Return the same without the files that `ignored` names."""
        return Tree(
            {path: content for path, content in self.files.items() if not ignored(path)}, self.folders, self.links
        )


def read(folder: Path) -> Tree:
    """Read a folder whole."""
    files: dict[str, Content] = {}
    folders: set[str] = set()
    links: dict[str, str] = {}
    for place, below, names in os.walk(folder):
        prefix = os.path.relpath(place, folder)
        for name in (*below, *names):
            path = name if prefix == "." else f"{prefix}/{name}"
            full = Path(place, name)
            if full.is_symlink():
                links[path] = os.fsdecode(full.readlink())
            elif full.is_dir():
                folders.add(path)
            elif full.is_file():  # not a socket or a pipe: those do not outlive the machine
                files[path] = Content.of(full.read_bytes())
    return Tree(files, frozenset(folders), links)


def write(tree: Tree, folder: Path) -> None:
    """Write a tree into an empty folder."""
    base = f"{folder}/"
    for path in sorted(tree.folders):
        Path(base + path).mkdir()
    for path, target in tree.links.items():
        Path(base + path).symlink_to(target)
    for path, content in tree.files.items():
        descriptor = os.open(base + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = memoryview(content.data)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)


def clear(folder: Path) -> None:
    """Make a folder empty, and make it when it is not there."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        folder.mkdir(parents=True)
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()


def differences(left: Tree, right: Tree) -> list[str]:
    """Return the paths in which two trees differ, sorted; empty when they are the same."""
    found = {path for path in {*left.files, *right.files} if _digest(left, path) != _digest(right, path)}
    found |= left.folders ^ right.folders
    found |= {path for path in {*left.links, *right.links} if left.links.get(path) != right.links.get(path)}
    return sorted(found)


def _digest(tree: Tree, path: str) -> bytes | None:
    content = tree.files.get(path)
    return content.digest if content else None
