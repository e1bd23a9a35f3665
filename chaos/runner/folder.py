"""The folder of a run: private, complete at every moment, one file for each reader."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaos.backends.ownership import OWNER_FILE, Owner
from chaos.errors import EnvironmentUnavailable
from chaos.runner.guardian import NEEDED_LATER, empty

STACK_FILE = "stack.json"
"""In a run's live data: what is needed to give a borrowed compose stack back. It is there until that is done."""

FREE_BYTES_MIN = 64 * 2**20
"""What the stores, the history and the logs of an ordinary run may take together."""


class RunFolder:
    """`<out>/<experiment>/<UTC time>-s<seed>/`, mode 0700.

    `live` holds what only a running run needs, the stores' `data` above all, and is gone at its end; a run that
    was judged and did not pass keeps the stores' files in `stores`.
    """

    def __init__(self, out: Path, experiment: str, seed: int) -> None:
        """Make the folder; two runs at the same moment get different ones.

        Raises EnvironmentUnavailable when it cannot be made (read-only, full disk).
        """
        self.started = datetime.now(UTC)
        stamp = self.started.strftime("%Y%m%dT%H%M%S.%f")[:-3]
        self._out = out.absolute()
        try:
            (self._out / experiment).mkdir(parents=True, exist_ok=True)
            self.path = self._make(self._out / experiment / f"{stamp}Z-s{seed}")
        except OSError as error:
            raise EnvironmentUnavailable(
                f"cannot make a run folder in {self._out / experiment}: {error.strerror or error}",
                "choose a writable place with --out DIR",
            ) from error
        self.live = self.path / "live"
        self.data = self.live / "data"
        self.control = self.live / "shim.control"
        self.logs = self.path / "logs"
        self.stores = self.path / "stores"

    @staticmethod
    def _make(path: Path) -> Path:
        """Make a folder that nobody had before: `path`, or with a number behind it. Raises OSError."""
        for attempt in itertools.count():
            candidate = path.with_name(f"{path.name}-{attempt}") if attempt else path
            try:
                candidate.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return candidate
        raise AssertionError("numbers do not end")

    def prepare(self) -> None:
        """Make the sub-folders and point `latest` here."""
        free_bytes = shutil.disk_usage(self.path).free
        if free_bytes < FREE_BYTES_MIN:
            raise EnvironmentUnavailable(
                f"{self.path} has {free_bytes // 2**20} MB free, and a run needs {FREE_BYTES_MIN // 2**20} MB",
                "free some space, or use --out DIR",
            )
        try:
            self._make_live()
            for folder in (self.data, self.logs, self.path / "checks"):
                folder.mkdir(mode=0o700)
        except OSError as error:
            raise EnvironmentUnavailable(
                f"cannot write into {self.path}: {error.strerror or error}", "free some space, or use --out DIR"
            ) from error
        self._point_latest()

    def _make_live(self) -> None:
        """Make the folder for live data, at no moment without the file that says whose it is."""
        draft = self.path / ".live"
        draft.mkdir(mode=0o700)
        (draft / OWNER_FILE).write_text(Owner.this().mark + "\n")
        draft.rename(self.live)

    def write_json(self, name: str, value: Any) -> None:
        """Replace a JSON file whole; a reader never sees half of it."""
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Replace a text file whole. Raises EnvironmentUnavailable when the disk refuses it."""
        target = self.path / name
        draft = target.with_name(target.name + ".tmp")
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise EnvironmentUnavailable(
                f"cannot write {target}: {error.strerror or error}", "free some space, or use --out DIR"
            ) from error

    def keep_stores(self) -> None:
        """Move the stores' files where they stay, for a post-mortem; takes no space, so it works on a full disk."""
        with contextlib.suppress(OSError):
            self.data.rename(self.stores)

    def remove_live(self) -> bool:
        """Remove the live data; True when nothing is left of it but what is needed to give a compose stack back."""
        if not (self.live / STACK_FILE).exists():
            shutil.rmtree(self.live, ignore_errors=True)
            return not self.live.exists()
        empty(self.live, keep=NEEDED_LATER)
        return {entry.name for entry in self.live.iterdir()} <= set(NEEDED_LATER)

    def lend(self, note: dict[str, Any]) -> None:
        """Keep what is needed to give a borrowed compose stack back, by whoever comes after us."""
        (self.live / STACK_FILE).write_text(json.dumps(note))

    def give_back(self) -> None:
        """Note that the borrowed stack is as it was, if there was one."""
        (self.live / STACK_FILE).unlink(missing_ok=True)

    def _point_latest(self) -> None:
        """Make `<out>/latest` a link to this run, atomically; several runs at once leave one of them there."""
        draft = self._out / f".latest-{os.getpid()}"
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
            draft.symlink_to(self.path.relative_to(self._out), target_is_directory=True)
            draft.replace(self._out / "latest")
