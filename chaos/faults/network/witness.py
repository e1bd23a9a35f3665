"""What shows that a toxic acts in a proxy that counts nothing: connections of our own that feel it.

A witness looks before the toxic is in, while it holds, and after it is out. What it saw is the evidence, under the
names that our own proxy gives. A witness that was interrupted, or could not tell the toxic from a slow machine, has
seen nothing: no evidence, so the fault has not landed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from statistics import median
from typing import ClassVar

from chaos.faults.network.link import Side
from chaos.faults.network.probe import PING, PONG, Probe, connect, probe, round_trips

BASELINE_TIMEOUT_S = 0.3
AGAIN_S = 0.02
SILENCE_S = 0.05
"""How long nothing may come for it to be silence: a round trip without toxics takes a fraction of a millisecond."""

LATE_S = 1.0
"""How long what was held back may take to arrive once it is let go."""

_TRIPS = 3
_CERTAIN = 0.5
"""The share of the expected delay that must be seen, at the median, on top of what an exchange took before."""

_PROBE_BYTES_MAX = 2**22


class Witness:
    """Base of witnesses. `address` is where the proxy listens, `sides` are the directions with a toxic."""

    counter: ClassVar[str]

    def __init__(self, address: tuple[str, int], sides: tuple[Side, ...], attributes: Mapping[str, int]) -> None:
        """`attributes` are the toxic's, in Toxiproxy's units."""
        self.address = address
        self.sides = sides
        self.attributes = attributes
        self.seen: dict[str, int] = {}
        self.felt = asyncio.Event()
        """Set once the toxic was felt."""

    async def before(self) -> None:
        """Look at the proxy without the toxic; short."""

    async def during(self) -> None:
        """Look until the toxic was felt, or for ever: it is cancelled when the toxic goes."""
        while not await self._felt():
            await asyncio.sleep(AGAIN_S)
        self.seen[self.counter] = self.amount
        self.felt.set()

    @property
    def amount(self) -> int:
        """How much a witness that felt the toxic counts: what it is sure of, once per direction."""
        return len(self.sides)

    async def after(self, *, alone: bool) -> None:
        """Look once the toxic is out; short. Unless `alone`, another fault still keeps answers from coming."""

    async def _felt(self) -> bool:
        raise NotImplementedError


class SlowWitness(Witness):
    """Sees that exchanges take longer than they did."""

    size_bytes = 0
    _base_s: float | None = None
    """The longest exchange before; None when there was none to be had."""

    @property
    def expected_s(self) -> float:
        """How much longer an exchange takes with the toxic."""
        raise NotImplementedError

    async def before(self) -> None:
        """Measure."""
        times = await round_trips(self.address, _TRIPS, self.size_bytes, BASELINE_TIMEOUT_S)
        self._base_s = max(times) if len(times) == _TRIPS else None

    async def _felt(self) -> bool:
        least_s = (self._base_s or 0.0) + self.expected_s * _CERTAIN
        times = await round_trips(self.address, _TRIPS, self.size_bytes, 10 * self.expected_s + LATE_S)
        return len(times) == _TRIPS and median(times) >= least_s


class LatencyWitness(SlowWitness):
    """Sees chunks arrive late."""

    counter = "chunks_delayed"

    @property
    def expected_s(self) -> float:
        """The delay on each direction; the jitter is as often less as more."""
        return len(self.sides) * self.attributes["latency"] / 1000


class BandwidthWitness(SlowWitness):
    """Sees a payload take the time that the rate gives it."""

    counter = "bytes_delayed"
    _LONG_S = 0.1

    def __init__(self, address: tuple[str, int], sides: tuple[Side, ...], attributes: Mapping[str, int]) -> None:
        """Choose a payload that takes a tenth of a second, unless the rate is too high for that."""
        super().__init__(address, sides, attributes)
        self._rate_bytes_s = 1000 * attributes["rate"]
        self.size_bytes = max(1, min(_PROBE_BYTES_MAX, int(self._rate_bytes_s * self._LONG_S)))

    @property
    def expected_s(self) -> float:
        """The payload crosses each direction once."""
        return len(self.sides) * self.size_bytes / self._rate_bytes_s

    @property
    def amount(self) -> int:
        """Bytes of the payload, once per direction."""
        return len(self.sides) * self.size_bytes


class SlicerWitness(SlowWitness):
    """Sees a payload come in pieces: by their pauses, and on the way back by the number of segments."""

    counter = "chunks_sliced"
    _PIECES = 16
    _segments_before: int | None = None

    def __init__(self, address: tuple[str, int], sides: tuple[Side, ...], attributes: Mapping[str, int]) -> None:
        """Choose a payload of several pieces."""
        super().__init__(address, sides, attributes)
        self.size_bytes = min(_PROBE_BYTES_MAX, self._PIECES * attributes["average_size"])

    @property
    def expected_s(self) -> float:
        """A pause after each piece, in each direction; microseconds."""
        pieces = self.size_bytes / self.attributes["average_size"]
        return len(self.sides) * pieces * self.attributes["delay"] / 1_000_000

    async def before(self) -> None:
        """Measure the time, and count segments."""
        await super().before()
        self._segments_before = await self._segments()

    async def _felt(self) -> bool:
        if self.expected_s and await super()._felt():
            return True
        now = await self._segments() if "reply" in self.sides else None
        pieces = self.size_bytes // self.attributes["average_size"]
        return now is not None and self._segments_before is not None and now >= self._segments_before + pieces // 2

    async def _segments(self) -> int | None:
        """Return how many segments one echo came in; None when it did not."""
        with contextlib.suppress(OSError, EOFError):
            async with probe(self.address) as connection:
                await connection.echo(self.size_bytes, self.expected_s * 4 + LATE_S)
                return connection.segments()
        return None


class PassWitness(Witness):
    """Sees that everything passes, as it is to: the witness of a toxic that does nothing."""

    counter = "chunks_passed"

    async def _felt(self) -> bool:
        return bool(await round_trips(self.address, 1, 0, LATE_S))


class SlowCloseWitness(Witness):
    """Sees a close arrive late: the server's at our end, or ours at the server, which still lists us."""

    counter = "ends_delayed"

    async def _felt(self) -> bool:
        least_s = self.attributes["delay"] / 1000 * _CERTAIN
        try:
            return await (self._server_closes(least_s) if "reply" in self.sides else self._client_closes(least_s))
        except (OSError, EOFError):
            return False

    async def _server_closes(self, least_s: float) -> bool:
        async with probe(self.address) as connection:
            await connection.ask(b"*1\r\n$4\r\nQUIT\r\n", len(b"+OK\r\n"), LATE_S)
            try:
                await connection.end(least_s)
            except TimeoutError:
                return True
        return False

    async def _client_closes(self, least_s: float) -> bool:
        async with probe(self.address) as watcher:
            async with probe(self.address) as leaver:
                await leaver.send(b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n")
                number = (await leaver.line(LATE_S))[1:]
            await asyncio.sleep(least_s)
            await watcher.send(b"*4\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n$2\r\nID\r\n$%d\r\n%b\r\n" % (len(number), number))
            return int((await watcher.line(LATE_S))[1:]) > len("\r\n")


class CutWitness(Witness):
    """Sees the proxy end a connection by itself: after a time without data, or after so many bytes."""

    counter = "connections_closed"

    @property
    def amount(self) -> int:
        """One connection, of ours."""
        return 1

    async def _felt(self) -> bool:
        requests = 1 + self.attributes.get("bytes", 0) // len(PONG if "reply" in self.sides else PING)
        if requests * len(PING) > _PROBE_BYTES_MAX:
            return False
        try:
            connection = await connect(self.address)
        except OSError:
            return False
        try:
            await connection.send(PING * requests)
            await connection.receive(len(PONG) * requests, self.attributes.get("timeout", 0) / 1000 + LATE_S)
        except TimeoutError:
            return False
        except (OSError, EOFError):
            return True
        finally:
            connection.close()
        return False


class SilenceWitness(Witness):
    """Sees that nothing is answered while the toxic holds, and, of one that holds bytes, that they arrive afterwards.

    A connection that somebody else's fault cuts meanwhile is replaced by another.
    """

    def __init__(self, address: tuple[str, int], sides: tuple[Side, ...], *, discards: bool) -> None:
        """Bytes are lost when the toxic `discards`; otherwise they are held, and arrive when it goes."""
        super().__init__(address, sides, {})
        self._discards = discards
        self._connection: Probe | None = None
        self.lost: dict[Side, int] = {}
        """Bytes of ours that a discarding toxic swallowed, by direction."""

    async def during(self) -> None:
        """Send a request, and wait for what must not come; until cancelled."""
        while True:
            with contextlib.suppress(OSError, EOFError):
                self._connection = await connect(self.address)
                await self._connection.send(PING)
                if await _silent(self._connection):
                    self.felt.set()
                    await self._connection.receive(1)
                self.felt.clear()  # an answer
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            await asyncio.sleep(AGAIN_S)

    async def after(self, *, alone: bool) -> None:
        """See what was held arrive late, or never."""
        answer = b""
        if self._connection is not None:
            with contextlib.suppress(OSError, EOFError):
                answer = await self._connection.receive(len(PONG), LATE_S if alone else SILENCE_S)
            self._connection.close()
        if not self.felt.is_set():
            return
        # What the toxic of the request direction stops never becomes an answer for the other one to stop.
        side: Side = "request" if "request" in self.sides else "reply"
        size_bytes = len(PING if side == "request" else PONG)
        if self._discards and not answer:
            self.lost[side] = size_bytes
            self.seen["bytes_discarded"] = size_bytes
        elif not self._discards and (answer == PONG or not alone):
            self.seen["bytes_held"] = size_bytes


async def _silent(connection: Probe) -> bool:
    try:
        await connection.receive(1, SILENCE_S)
    except TimeoutError:
        return True
    return False


WITNESSES: Mapping[str, type[Witness]] = {
    "bandwidth": BandwidthWitness,
    "latency": LatencyWitness,
    "limit_data": CutWitness,
    "noop": PassWitness,
    "reset_peer": CutWitness,
    "slicer": SlicerWitness,
    "slow_close": SlowCloseWitness,
    "timeout": CutWitness,
}
"""By type of toxic, with that type's attributes."""
