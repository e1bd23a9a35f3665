"""A file system in a file: what a machine without power would find on its disk, by the kernel's own ext4.

The image file holds what the file system has written to its device. What an application wrote and did not sync is in
the page cache above it. Copying the image at the moment of the kill, and mounting the copy, is what a power cut does to
a disk that keeps all it has confirmed: the journal is replayed, and what never reached the device is not there. Needs
root, for the loop device and the mount.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

SIZE_BYTES = 64 * 1024**2


def missing() -> str | None:
    """Return what is missing for it here; None when it can be done."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None if Path("/dev/loop-control").exists() else "there is no loop device"


class Image:
    """An ext4 file system in a file. Mount it with `mounted`."""

    def __init__(self, path: Path) -> None:
        """Name the file; `make` makes it."""
        self.path = path

    def make(self) -> None:
        """Make an empty file system. Nothing but a sync, or the age of a page, brings data to the device."""
        with self.path.open("wb") as file:
            file.truncate(SIZE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(self.path)], check=True)

    def copy(self, path: Path) -> Image:
        """Return a copy of what is on the device at this moment."""
        shutil.copyfile(self.path, path)
        return Image(path)

    @contextlib.contextmanager
    def mounted(self, folder: Path) -> Iterator[Path]:
        """Mount it at `folder`, which is made, for the time of the block."""
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop,commit=600", str(self.path), str(folder)], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
