"""What a container hands out lands below its folder, with and without Python's own filters."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from chaos.backends.docker.archive import unpack


def _archive(*entries: tuple[str, bytes, bytes]) -> tarfile.TarFile:
    """Return an archive of entries (name, type, content or link target), opened for reading."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                entry.size = len(content)
            else:
                entry.linkname = content.decode()
            archive.addfile(entry, io.BytesIO(content))
    return tarfile.open(fileobj=io.BytesIO(buffer.getvalue()))


@pytest.fixture(params=["the filters of this Python", "none, as before Python 3.11.4"])
def filters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python with the extraction filters of PEP 706, and one without."""
    if request.param.startswith("none"):
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        extract = tarfile.TarFile.extractall

        def _as_before(self: tarfile.TarFile, path: str = ".", members: None = None, *, numeric_owner: bool = False):
            return extract(self, path, members, numeric_owner=numeric_owner)

        monkeypatch.setattr(tarfile.TarFile, "extractall", _as_before)


def test_files_are_written(filters: None, tmp_path: Path) -> None:
    """Folders come with the files that are in them."""
    with _archive(
        (".", tarfile.DIRTYPE, b""),
        ("./appendonlydir", tarfile.DIRTYPE, b""),
        ("./appendonlydir/aof.1", tarfile.REGTYPE, b"SET kept yes"),
        ("./dump.rdb", tarfile.REGTYPE, b"REDIS"),
    ) as archive:
        unpack(archive, tmp_path)
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"appendonlydir/aof.1": b"SET kept yes", "dump.rdb": b"REDIS"}


def test_nothing_leads_out_of_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the filters a name or a link that points elsewhere is left out, and the rest is written."""
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    with _archive(
        ("../outside/climbed", tarfile.REGTYPE, b"x"),
        (str(outside / "absolute"), tarfile.REGTYPE, b"x"),
        ("link", tarfile.SYMTYPE, str(outside).encode()),
        ("link/through", tarfile.REGTYPE, b"x"),
        ("pipe", tarfile.FIFOTYPE, b""),
        ("good", tarfile.REGTYPE, b"x"),
    ) as archive:
        unpack(archive, inside)
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in inside.iterdir()) == ["good", "link"]
    assert not (inside / "link").is_symlink()
