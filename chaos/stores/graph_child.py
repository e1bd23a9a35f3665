"""The process around the graph engine. `python -m chaos.stores.graph_child --fd N`.

An engine that crashes, corrupts its heap or hangs takes only this process with it; the supervisor in
`chaos.stores.graph` starts another. One thread writes, and answers its requests one by one; a few threads read, each
on a connection of its own (`chaos.stores.graph_desk`). After any exception inside a writing transaction the process
answers and ends, because neither engine's rollback can be trusted; it never closes the database then, since closing
would write. A reading that fails costs its connection only.

The child keeps the number of the last applied transaction in memory; it is its only writer, so the number
read at the start stays true. It checkpoints only when it is asked for a base, and when it is closed.
"""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from chaos._channel import SyncChannel
from chaos._process import die_with_parent
from chaos.stores.graph_batch import merged
from chaos.stores.graph_desk import READING_THREADS, Dropped, ReadingDesk, Refused
from chaos.stores.graph_engine import CommitFailed, GraphEngine, Statement
from chaos.stores.graph_files import GraphFiles, Locked, Plan
from chaos.stores.graph_gate import CheckpointGate

EXIT_BROKEN = 86
"""Exit status after an exception that leaves the engine unfit."""

_APPLIED_TABLE = "CREATE NODE TABLE IF NOT EXISTS Applied(csn INT64, token STRING, PRIMARY KEY(csn))"
_CREATE_APPLIED = "CREATE (:Applied {csn: $csn, token: $token})"


class GraphServer:
    """Answers requests with one engine. Every answer is plain JSON."""

    def __init__(self) -> None:
        """Nothing is open; `open` is the first request."""
        self._engine: GraphEngine | None = None
        self._files: GraphFiles | None = None
        self._gate = CheckpointGate()
        self.desk: ReadingDesk | None = None
        self._applied: int | None = None

    def answer(self, op: str, args: Mapping[str, Any]) -> Any:
        """Serve one request of the writing thread. Raises Refused, CommitFailed, or whatever the engine raised."""
        if op == "open":
            return self._open(args)
        if self._engine is None or self._files is None:
            raise Refused(f"{op} before open")
        match op:
            case "applied":
                return self._applied
            case "write":
                self._engine.transact(_statements(args))
            case "seed":
                self._seed(args)
            case "apply":
                return self._apply(args)
            case "checkpoint":
                return self._checkpoint()
            case "census":
                return self._engine.census()
            case "base":
                return self._base(args["name"], args["keep"])
            case "close":
                assert self.desk is not None
                self.desk.close()
                self._engine.close()
                self._engine = self.desk = None
                return self._files.seal()
            case _:
                raise Refused(f"unknown request {op}")
        return None

    def _open(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Make the files ready and open them; without a plan they are opened as they are."""
        path = Path(args["path"])
        self._files = GraphFiles(path)
        try:
            self._files.lock()
        except Locked as error:
            raise Refused(str(error)) from error
        plan = args["plan"]
        kept = plan is None or self._files.make_ready(msgspec.convert(plan, Plan))
        self._engine = GraphEngine(
            args["engine"],
            path,
            buffer_pool_mb=args["buffer_pool_mb"],
            max_db_size_mb=args["max_db_size_mb"],
        )
        self._engine.run(_APPLIED_TABLE, {})
        last, count = self._engine.run("MATCH (a:Applied) RETURN max(a.csn), count(*)", {})[0]
        self._applied = last
        self.desk = ReadingDesk(self._engine, self._gate)
        return {"applied": last, "count": count, "kept": kept}

    def _seed(self, args: Mapping[str, Any]) -> None:
        """Create the schema, each statement by itself, then the first rows together with the mark csn 0."""
        assert self._engine is not None
        for cypher in args["schema"]:
            self._engine.run(cypher, {})
        self._engine.transact([*_statements(args), (_CREATE_APPLIED, {"csn": 0, "token": ""})])
        self._applied = 0

    def _apply(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Apply those transactions that were not; the marks that say so are part of the same transaction."""
        assert self._engine is not None
        statements: list[Statement] = []
        marks: list[Statement] = []
        reached = self._applied
        for row in args["rows"]:
            csn = row["csn"]
            if args["checked"]:
                if reached is None or reached < row["previous"]:
                    return {"outcome": "gap", "applied": self._applied}
                if reached >= csn:
                    continue
            statements += _statements(row)
            if args["checked"] or not self._engine.run("MATCH (a:Applied {csn: $csn}) RETURN a.csn", {"csn": csn}):
                marks.append((_CREATE_APPLIED, {"csn": csn, "token": row["token"]}))
            reached = max(csn, reached or 0)
        if reached == self._applied and args["checked"]:
            return {"outcome": "already", "applied": self._applied}
        self._engine.transact(merged([*statements, *marks]))
        self._applied = reached
        return {"outcome": "applied", "applied": self._applied}

    def _base(self, name: str, keep: Sequence[str]) -> dict[str, Any]:
        assert self._engine is not None
        assert self._files is not None
        if not self._checkpoint():
            raise Refused("a reader holds the checkpoint off")
        base = self._files.save_base(name, keep)
        return {"base": msgspec.to_builtins(base), "census": self._engine.census()}

    def _checkpoint(self) -> bool:
        """Make a checkpoint unless a reader forbids it; tell whether it was made."""
        assert self._engine is not None
        with self._gate.checkpointing(alone=self._engine.checkpoint_waits) as free:
            if free:
                self._engine.checkpoint()
        return free


def _statements(args: Mapping[str, Any]) -> list[Statement]:
    return [(cypher, parameters) for cypher, parameters in args["statements"]]


class Receptionist:
    """Hands requests to the writing thread or to the reading ones, and sends their answers.

    An answer with the error kind "CommitFailed" or "Broken" is the last one: the process ends with it, whatever the
    other threads are doing.
    """

    def __init__(self, channel: SyncChannel, leave: Callable[[int], object] = os._exit) -> None:
        """Talk over `channel`; `leave` is called with `EXIT_BROKEN` when the engine is unfit."""
        self._channel = channel
        self._leave = leave
        self._server = GraphServer()
        self._writer = ThreadPoolExecutor(1, "writer")
        self._readers = ThreadPoolExecutor(READING_THREADS, "reader")
        self._enders = ThreadPoolExecutor(1, "ender")

    def serve(self) -> int:
        """Answer until the other end closes; return the exit status."""
        while (message := self._channel.receive()) is not None:
            if message["op"] in ReadingDesk.OPS:
                threads = self._enders if message["op"] in ReadingDesk.ENDINGS else self._readers
                threads.submit(self._answer, message, self._read)
                continue
            if message["op"] == "close":  # the last request; the readings under way must end before the database does
                self._readers.shutdown(cancel_futures=True)
                self._enders.shutdown(cancel_futures=True)
            self._writer.submit(self._answer, message, self._server.answer)
        return 0

    def _read(self, op: str, args: Mapping[str, Any]) -> Any:
        desk = self._server.desk
        if desk is None:
            raise Refused(f"{op} before open")
        return desk.answer(op, args)

    def _answer(self, message: Mapping[str, Any], answer: Callable[[str, Mapping[str, Any]], Any]) -> None:
        reply: dict[str, Any] = {"id": message["id"]}
        broken = False
        try:
            reply["ok"] = answer(message["op"], message["args"])
        except (Refused, Dropped) as error:
            reply["error"] = {"kind": type(error).__name__, "text": str(error)}
        except CommitFailed as error:
            broken = True
            reply["error"] = {"kind": "CommitFailed", "text": str(error)}
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent must hear of it
            broken = True
            reply["error"] = {"kind": "Broken", "text": f"{type(error).__name__}: {error}"}
        self._send(reply)
        if broken:
            self._leave(EXIT_BROKEN)

    def _send(self, reply: dict[str, Any]) -> None:
        try:
            self._channel.send(reply)
        except (TypeError, OverflowError) as error:  # the engine returned something that JSON has no form for
            self._channel.send({"id": reply["id"], "error": {"kind": "Refused", "text": str(error)}})


def main() -> None:
    """Entry point of the process; leaves without running the engine's destructors, which may write or crash."""
    die_with_parent()
    parser = argparse.ArgumentParser(description="hosts the graph engine; started by its supervisor")
    parser.add_argument("--fd", type=int, required=True)
    status = Receptionist(SyncChannel(socket.socket(fileno=parser.parse_args().fd))).serve()
    os._exit(status)


if __name__ == "__main__":
    main()
