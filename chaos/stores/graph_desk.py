"""The readers inside the graph child: connections by number, and what may be asked of them.

The parent numbers nothing and guesses nothing: it asks for a connection, uses it one request at a time, and gives
it back. A connection on which anything failed is closed here, at once, and the answer says that it is gone.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos.stores.graph_engine import GraphEngine, GraphReader
from chaos.stores.graph_gate import CheckpointGate

READING_THREADS = 4
"""How many readings run at once; the parent sends no more, so that none waits here with a watchdog running."""

_FULL = ("buffer manager", "buffer pool")
"""Words of an engine without memory. ladybug keeps each statement that a connection has run, with the memory that its
last run took, a few MB for an aggregate; a few dozen different ones fill a small buffer pool. Closing sets it free."""


class Refused(Exception):
    """The request cannot be served, nothing was changed, and the engine is still fit."""


class Dropped(Exception):
    """A reading failed; its connection is closed, and a snapshot on it has ended. The engine is still fit."""


@dataclass
class _Seat:
    """One connection; the lock is held by the thread that uses it."""

    reader: GraphReader
    snapshot: bool = False
    busy: threading.Lock = field(default_factory=threading.Lock)


class ReadingDesk:
    """Serves the requests named in `OPS`, each on any thread; one connection serves one request at a time."""

    OPS = frozenset({"connect", "disconnect", "read", "begin", "end"})
    ENDINGS = frozenset({"disconnect", "end"})
    """Requests for a thread of their own: a checkpoint that holds the others back waits for just these."""

    def __init__(self, engine: GraphEngine, gate: CheckpointGate) -> None:
        """Connections come from `engine`; `gate` keeps its checkpoints apart from the readings."""
        self._engine = engine
        self._gate = gate
        self._seats: dict[int, _Seat] = {}
        self._numbers = itertools.count(1)

    def answer(self, op: str, args: Mapping[str, Any]) -> Any:
        """Serve one request. Raises Refused, or Dropped when the connection is gone."""
        if op == "connect":
            number = next(self._numbers)
            self._seats[number] = _Seat(self._engine.connect())
            return number
        number = args["connection"]
        seat = self._seats.get(number)
        if seat is None:
            raise Dropped(f"connection={number} is not open")
        if not seat.busy.acquire(blocking=False):
            raise Refused(f"connection={number} is in use")
        try:
            return self._serve(seat, op, args)
        except RuntimeError as error:
            self._close(number, seat)
            raise Dropped(str(error)) from error
        except ValueError as error:
            raise Refused(str(error)) from error
        finally:
            seat.busy.release()

    def close(self) -> None:
        """Close every connection; no request may be under way."""
        for number, seat in list(self._seats.items()):
            self._close(number, seat)

    def _serve(self, seat: _Seat, op: str, args: Mapping[str, Any]) -> Any:
        match op:
            case "read" if seat.snapshot:
                return seat.reader.run(args["cypher"], args["parameters"])
            case "read":
                with self._gate.reading():
                    return self._read(seat, args["cypher"], args["parameters"])
            case "begin":
                self._begin(seat)
            case "end":
                seat.reader.end()
                self._snapshot_ended(seat)
            case "disconnect":
                self._close(args["connection"], seat)
            case _:
                raise Refused(f"unknown request {op}")
        return None

    def _read(self, seat: _Seat, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        """Run one statement; when the buffer pool is full, once more after the idle connections have let go of it."""
        try:
            return seat.reader.run(cypher, parameters)
        except RuntimeError as error:
            if not any(word in str(error).lower() for word in _FULL):
                raise
        self._renew(seat)
        for other in list(self._seats.values()):
            if other is not seat and not other.snapshot and other.busy.acquire(blocking=False):
                try:
                    self._renew(other)
                finally:
                    other.busy.release()
        return seat.reader.run(cypher, parameters)

    def _renew(self, seat: _Seat) -> None:
        seat.reader.close()
        seat.reader = self._engine.connect()

    def _begin(self, seat: _Seat) -> None:
        if seat.snapshot:
            raise Refused("a snapshot is open on this connection")
        self._gate.begins()
        seat.snapshot = True
        seat.reader.begin()  # when it fails the connection is closed, and the gate told, by whoever called

    def _snapshot_ended(self, seat: _Seat) -> None:
        if seat.snapshot:
            seat.snapshot = False
            self._gate.ends()

    def _close(self, number: int, seat: _Seat) -> None:
        self._seats.pop(number, None)
        try:
            seat.reader.close()
        finally:
            self._snapshot_ended(seat)
