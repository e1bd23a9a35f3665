"""Which states a crash at an operation boundary may leave, and how each is built from the model.

Randomness comes from the seed, the boundary, the view and the number of the draw alone, so each state can be made
again by itself. Sectors of 512 bytes are taken to be written whole or not at all, as SQLite's and most other stores'
authors assume; pages of 4 KiB are what the kernel checks for a fatal signal between.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from random import Random

from chaos._seeds import stream
from chaos.crashpoints.content import File, Length, Missing, Range, Write
from chaos.crashpoints.model import Disk
from chaos.crashpoints.names import View
from chaos.crashpoints.recipes import Recipe
from chaos.crashpoints.snapshot import Tree
from chaos.faults.disk.oplog import LIED, Kind, Operation

SECTOR = 512
PAGE = 4096
_CUTS_MAX = 8
_BURST = 64
_CHANCES = (0.1, 0.5, 0.9)
_STILL = (Kind.CLOSE, Kind.ATTACH, Kind.TAINT, Kind.SYNC_RANGE)


def recipes(disk: Disk, boundary: int, *, seed: int, draws: int) -> Iterator[Recipe]:
    """Yield the states at `boundary`, the one that `disk` has been brought to; `draws` random ones among them.

    A marker changes no byte, but what was promised from there on: it has states like a write. Within a long burst of
    writes without a sync, one more write makes hardly another choice of what is lost: there only some boundaries have
    random states, the fewer the longer the burst. Where something is synced, named, cut or promised all have.
    """
    last = disk.last
    if last is not None and last.kind in _STILL:
        return
    yield Recipe(boundary, "P")
    if last is not None and last.kind is Kind.WRITE and not last.flags & LIED:
        for cut in _sampled(_inner(last, PAGE), _CUTS_MAX, seed, boundary):
            yield Recipe(boundary, "Pt", None, cut)
        yield from _torn(last, boundary, seed)
    for view in View:
        yield Recipe(boundary, "Ws", view)
    if last is None or last.kind is not Kind.WRITE or boundary % _stride(disk) == 0:
        for number in range(draws):
            view = (View.POSIX, View.EXT4)[number % 2]
            if disk.unsynced() or disk.names.pending[view]:
                yield Recipe(boundary, "Wr", view, number)


def build(disk: Disk, recipe: Recipe, *, seed: int) -> Tree:
    """Return the state of `recipe`; `disk` stands at its boundary. Valid until the model moves on."""
    match recipe.kind:
        case "P":
            return disk.now()
        case "Pt":
            return disk.cut(recipe.number)
        case "Ws":
            assert recipe.view is not None
            return disk.synced(recipe.view)
    lost = missing(disk, recipe, seed=seed)
    if recipe.kind == "Wt" and not disk.dropped:
        [ranges] = lost.values()
        assert ranges is not None
        return disk.torn(ranges[0])
    return disk.without(recipe.view or View.EXT4, lost)


def missing(disk: Disk, recipe: Recipe, *, seed: int) -> Missing:
    """Return what the state of a recipe lacks compared with P, for every kind of power loss."""
    match recipe.kind:
        case "Ws":
            assert recipe.view is not None
            return all_missing(disk, recipe.view)
        case "Wt":
            last = disk.last
            assert last is not None
            low, high = last.offset or 0, (last.offset or 0) + len(last.payload)
            cut = low + abs(recipe.number)
            return {recipe.boundary - 1: ((cut, high) if recipe.number > 0 else (low, cut),)}
        case "Wr":
            assert recipe.view is not None
            rng = stream(seed, "crash-state", recipe.boundary, recipe.view, recipe.number)
            return drawn(disk, recipe.view, rng)
        case "W":
            return dict(recipe.missing)
    return {}


def metadata(disk: Disk, view: View) -> list[int]:
    """Return the operations whose effect on names or lengths the disk may lack, in order."""
    found = {change.index for change in disk.names.pending[view]}
    for file in disk.unsynced():
        for change in file.pending:
            if isinstance(change, Length) and not (view is View.EXT4 and change.journaled):
                found.add(change.index)
    return sorted(found)


def legal(disk: Disk, view: View, lost: Missing) -> bool:
    """Tell whether a crash here may leave a disk that lacks `lost`: the rules of the view, and whole sectors."""
    optional = metadata(disk, view)
    writes = {change.index: change for file in disk.unsynced() for change in file.pending if isinstance(change, Write)}
    for index, ranges in lost.items():
        if index not in writes and (ranges is not None or index not in optional):
            return False
        if ranges is not None and any(_tears_sector(writes[index], piece) for piece in ranges):
            return False
    if view is View.POSIX:
        return True
    gone = [index for index in optional if index in lost]
    if gone != optional[len(optional) - len(gone) :]:
        return False
    return all(lost.get(index, ()) is None for index in _after_lost_length(disk, lost))


def _stride(disk: Disk) -> int:
    return 1 + sum(len(file.pending) for file in disk.unsynced()) // _BURST


def _inner(operation: Operation, grain: int) -> list[int]:
    """Return the distances from a write's beginning at which the file's units of `grain` bytes begin inside it."""
    low = operation.offset or 0
    first = (low // grain + 1) * grain
    return [place - low for place in range(first, low + len(operation.payload), grain)]


def _sampled(cuts: list[int], count: int, seed: int, boundary: int) -> list[int]:
    if len(cuts) <= count:
        return cuts
    return sorted(stream(seed, "cut", boundary).sample(cuts, count))


def _torn(last: Operation, boundary: int, seed: int) -> Iterator[Recipe]:
    """Yield a few tears of the last write: beginnings that arrived, and one end that did without its beginning."""
    cuts = _inner(last, SECTOR)
    if not cuts:
        return
    rng = stream(seed, "tear", boundary)
    for cut in sorted(rng.sample(cuts, min(2, len(cuts)))):
        yield Recipe(boundary, "Wt", None, cut)
    yield Recipe(boundary, "Wt", None, -rng.choice(cuts))


def all_missing(disk: Disk, view: View) -> dict[int, tuple[Range, ...] | None]:
    """Return all that a power loss may take here: every change that no sync covers."""
    lost: dict[int, tuple[Range, ...] | None] = dict.fromkeys(metadata(disk, view))
    for file in disk.unsynced():
        lost.update((change.index, None) for change in file.pending if isinstance(change, Write))
    return lost


def drawn(disk: Disk, view: View, rng: Random) -> Missing:
    """Draw what is missing. Names: any under posix, the newest under ext4. Data: whole writes, or their pieces."""
    lost: dict[int, tuple[Range, ...] | None] = {}
    optional = metadata(disk, view)
    if view is View.EXT4:
        lost.update(dict.fromkeys(optional[rng.randint(0, len(optional)) :]))
    else:
        chance = rng.choice(_CHANCES)
        lost.update((index, None) for index in optional if rng.random() >= chance)
    chance, grain = rng.choice(_CHANCES), rng.choice((0, SECTOR, PAGE))
    for file in disk.unsynced():
        for change in file.pending:
            if isinstance(change, Write):
                ranges = _lost_pieces(change, grain, chance, rng)
                if ranges != ():
                    lost[change.index] = ranges
    if view is View.EXT4:
        lost.update(dict.fromkeys(_after_lost_length(disk, lost)))
    return lost


def _lost_pieces(change: Write, grain: int, chance: float, rng: Random) -> tuple[Range, ...] | None:
    """Draw which pieces of a write are lost; () for none of it, None for all. Grain 0 takes the write as one."""
    if not grain:
        return () if rng.random() < chance else None
    ranges: list[Range] = []
    low = change.offset
    while low < change.end:
        high = min((low // grain + 1) * grain, change.end)
        if rng.random() >= chance:
            if ranges and ranges[-1][1] == low:
                ranges[-1] = (ranges[-1][0], high)
            else:
                ranges.append((low, high))
        low = high
    return None if ranges == [(change.offset, change.end)] else tuple(ranges)


def _after_lost_length(disk: Disk, lost: Missing) -> list[int]:
    """Return the writes that came after a lost change of their file's length.

    The ordered journal frees and grows a file's blocks with its length, so bytes written into the new ones cannot
    show up in the old ones.
    """
    found = []
    for file in disk.unsynced():
        cut = _first_lost_length(file, lost)
        if cut is not None:
            found += [change.index for change in file.pending if isinstance(change, Write) and change.index > cut]
    return found


def _first_lost_length(file: File, lost: Missing) -> int | None:
    return next((item.index for item in file.pending if isinstance(item, Length) and item.index in lost), None)


def _tears_sector(change: Write, piece: Range) -> bool:
    """Tell whether a lost range splits a sector that the write covered, or lies outside of the write."""
    low, high = piece
    if not change.offset <= low < high <= change.end:
        return True
    return bool((low % SECTOR and low != change.offset) or (high % SECTOR and high != change.end))


def ignoring(globs: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a path matches one of some globs, in which `*` stands for anything, slashes too."""
    patterns = [re.compile(fnmatch.translate(glob)) for glob in globs]
    return lambda path: any(pattern.match(path) for pattern in patterns)
