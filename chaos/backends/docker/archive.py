"""Unpacking what a container hands out: files for people to look at, written below one folder and nowhere else."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path


def unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Write the content of `archive` below `folder`, whatever its names say.

    Python 3.11 got its extraction filters (PEP 706) with 3.11.4. Where there are none only regular files are written:
    a store's folder holds nothing else, and a file cannot lead elsewhere as a link can.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
        return
    root = folder.resolve()
    for member in archive:
        target = (root / member.name).resolve()
        source = archive.extractfile(member) if member.isreg() else None
        if source is None or not target.is_relative_to(root) or target == root:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy)
