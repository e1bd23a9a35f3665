"""Bytes of a file in blocks that copies share, with a hash that costs only what was changed.

A file of a graph engine has ten megabytes and changes a page at a time, and each of ten thousand states is a variant of
it. So a copy copies references, a write replaces the blocks that it touches, and the hash is the sum (modulo 2^128) of
the BLAKE2b hashes of all blocks, each salted with its place. Nobody makes collisions on purpose here.
"""

from __future__ import annotations

from hashlib import blake2b

BLOCK = 4096
_BITS = 128
_BYTES = _BITS // 8
_ZEROS = bytes(BLOCK)


class Blocks:
    """A sequence of bytes. The last block may be short."""

    __slots__ = ("_blocks", "_dirty", "_hashes", "_total", "size")

    def __init__(self, data: bytes | bytearray = b"") -> None:
        """Hold `data`."""
        self.size = len(data)
        self._blocks = [bytes(data[low : low + BLOCK]) for low in range(0, len(data), BLOCK)]
        self._hashes = [0] * len(self._blocks)
        self._dirty = set(range(len(self._blocks)))
        self._total = 0

    def copy(self) -> Blocks:
        """Return the same bytes, to be changed independently."""
        self._settle()
        other = Blocks()
        other.size, other._total = self.size, self._total
        other._blocks, other._hashes = self._blocks.copy(), self._hashes.copy()
        return other

    @property
    def digest(self) -> bytes:
        """The hash of the content, its length included."""
        self._settle()
        return self._total.to_bytes(_BYTES, "big") + self.size.to_bytes(8, "big")

    def to_bytes(self) -> bytes:
        """Return all bytes."""
        return b"".join(self._blocks)

    def read(self, offset: int, count: int) -> bytes:
        """Return the bytes [offset, offset + count), as many of them as there are."""
        first, last = offset // BLOCK, (offset + count - 1) // BLOCK
        low = offset - first * BLOCK
        return b"".join(self._blocks[first : last + 1])[low : low + count] if count > 0 else b""

    def write(self, offset: int, payload: bytes) -> None:
        """Write like pwrite(2): a gap before `offset` becomes zeros."""
        if not payload:
            return
        end = offset + len(payload)
        if offset > self.size:
            self.resize(offset)
        at = offset
        while at < end:
            index = at // BLOCK
            base = index * BLOCK
            low, high = at - base, min(end - base, BLOCK)
            old = self._blocks[index] if index < len(self._blocks) else b""
            piece = payload[at - offset : at - offset + high - low]
            self._replace(index, piece if high - low == BLOCK else old[:low] + piece + old[high:])
            at = base + high
        self.size = max(self.size, end)

    def resize(self, size: int) -> None:
        """Cut the bytes off behind `size`, or fill them up to it with zeros."""
        count = -(-size // BLOCK)
        if size < self.size:
            for index in range(count, len(self._blocks)):
                self._dirty.discard(index)
                self._total -= self._hashes[index]
            del self._blocks[count:], self._hashes[count:]
            if size % BLOCK:
                self._replace(count - 1, self._blocks[count - 1][: size % BLOCK])
        elif size > self.size:
            for index in range(self.size // BLOCK, count):
                old = self._blocks[index] if index < len(self._blocks) else b""
                room = min(size - index * BLOCK, BLOCK)
                self._replace(index, old + _ZEROS[len(old) : room])
        self.size = size

    def _replace(self, index: int, block: bytes) -> None:
        if index == len(self._blocks):
            self._blocks.append(block)
            self._hashes.append(0)
        else:
            self._blocks[index] = block
        self._dirty.add(index)

    def _settle(self) -> None:
        """Bring the hash up to date."""
        for index in self._dirty:
            hashed = blake2b(self._blocks[index], digest_size=_BYTES, salt=index.to_bytes(16, "big"))
            new = int.from_bytes(hashed.digest(), "big")
            self._total += new - self._hashes[index]
            self._hashes[index] = new
        self._dirty.clear()
        self._total %= 1 << _BITS
