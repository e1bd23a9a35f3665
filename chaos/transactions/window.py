"""What was written by the transactions of late, to be compared with what others have read meanwhile.

Backward validation: a transaction may commit when nobody who committed after its snapshot wrote something that it has
read. All that it read is then still true at the moment of its commit, so the order of commits is a serial order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import takewhile

from chaos.transactions.granules import Point, Read, Row, Whole, Write, overlap, same_row

COMMITS_MAX = 20_000
"""Commits that are remembered. A snapshot that is older than all of them cannot be validated any more."""


class _Place:
    """The writes to one place. `last` and `whole`: numbers of the last write, and of the last of unknown rows."""

    def __init__(self) -> None:
        self.last = self.whole = -1
        self.rows: deque[tuple[int, Row]] = deque()
        self.points: dict[tuple[str, str], int] = {}
        self.shapes: dict[tuple[str, ...], int] = {}

    def add(self, csn: int, row: Row) -> None:
        """Note the write of one row."""
        self.last = csn
        self.rows.append((csn, row))
        for column in row.columns:
            self.points[column] = csn
        self.shapes[tuple([name for name, _ in row.columns])] = csn

    def forget(self, csn: int) -> None:
        """Drop the rows of `csn`, the oldest that is known."""
        while self.rows and self.rows[0][0] <= csn:
            _, row = self.rows.popleft()
            for column in row.columns:
                if self.points.get(column, csn + 1) <= csn:
                    del self.points[column]

    def since(self, csn: int) -> Iterable[Row]:
        """Yield the rows written after `csn`, the newest first."""
        return (row for _, row in takewhile(lambda one: one[0] > csn, reversed(self.rows)))

    def read_meanwhile(self, read: Read, csn: int) -> bool:
        """Tell whether something in `read` may have been written after `csn`."""
        if self.last <= csn:
            return False
        if self.whole > csn or isinstance(read, Whole):
            return True
        if isinstance(read, Point):
            written = self.points.get((read.column, read.value), -1) > csn
            return written or any(at > csn and read.column not in shape for shape, at in self.shapes.items())
        return any(overlap(read, row) for row in self.since(csn))

    def written_meanwhile(self, write: Write, csn: int) -> bool:
        """Tell whether the row of `write` may have been written after `csn`."""
        if self.last <= csn:
            return False
        return self.whole > csn or isinstance(write, Whole) or any(same_row(write, row) for row in self.since(csn))


class Window:
    """The writes of the last `commits_max` commits. `oldest`: snapshots below it are too old to be compared."""

    def __init__(self, oldest: int = -1, commits_max: int = COMMITS_MAX) -> None:
        """Begin with nothing written after `oldest`."""
        self.oldest = oldest
        self._commits_max = commits_max
        self._commits: deque[tuple[int, tuple[str, ...]]] = deque()
        self._places: dict[str, _Place] = {}

    def add(self, csn: int, writes: Sequence[Write]) -> None:
        """Note what `csn` has written; numbers must rise."""
        with_rows: list[str] = []
        for write in writes:
            place = self._places.get(write.place)
            if place is None:
                place = self._places[write.place] = _Place()
            if isinstance(write, Row):
                place.add(csn, write)
                with_rows.append(write.place)
            else:
                place.last = place.whole = csn
        self._commits.append((csn, tuple(with_rows)))
        while len(self._commits) > self._commits_max:
            self.oldest, places = self._commits.popleft()
            for name in places:
                self._places[name].forget(self.oldest)

    def read_meanwhile(self, reads: Iterable[Read], csn: int) -> Read | None:
        """Return one of `reads` that somebody may have written to after `csn`; None when there is none."""
        for read in reads:
            place = self._places.get(read.place)
            if place is not None and place.read_meanwhile(read, csn):
                return read
        return None

    def written_meanwhile(self, writes: Iterable[Write], csn: int) -> Write | None:
        """Return one of `writes` whose row somebody else may have written after `csn`; None when there is none."""
        for write in writes:
            place = self._places.get(write.place)
            if place is not None and place.written_meanwhile(write, csn):
                return write
        return None
