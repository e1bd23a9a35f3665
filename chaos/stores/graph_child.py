"""The process around the graph engine. `python -m chaos.stores.graph_child --fd N`.

An engine that crashes, corrupts its heap or hangs takes only this process with it; the supervisor in
`chaos.stores.graph` starts another. Requests are answered one by one. After any exception inside a
transaction the process answers and ends, because neither engine's rollback can be trusted; it never closes
the database then, since closing would write.

The child keeps the number of the last applied transaction in memory; it is its only writer, so the number
read at the start stays true. It checkpoints only when it is asked for a base, and when it is closed.
"""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from chaos._channel import SyncChannel
from chaos._process import die_with_parent
from chaos.stores.graph_engine import CommitFailed, GraphEngine, Statement
from chaos.stores.graph_files import GraphFiles, Locked, Plan

EXIT_BROKEN = 86
"""Exit status after an exception that leaves the engine unfit."""

_APPLIED_TABLE = "CREATE NODE TABLE IF NOT EXISTS Applied(csn INT64, token STRING, PRIMARY KEY(csn))"
_CREATE_APPLIED = "CREATE (:Applied {csn: $csn, token: $token})"


class Refused(Exception):
    """The request cannot be served, nothing was changed, and the engine is still fit."""


class GraphServer:
    """Answers requests with one engine. Every answer is plain JSON."""

    def __init__(self) -> None:
        """Nothing is open; `open` is the first request."""
        self._engine: GraphEngine | None = None
        self._files: GraphFiles | None = None
        self._applied: int | None = None

    def answer(self, op: str, args: Mapping[str, Any]) -> Any:
        """Serve one request. Raises Refused, CommitFailed, or whatever the engine raised."""
        if op == "open":
            return self._open(args)
        if self._engine is None or self._files is None:
            raise Refused(f"{op} before open")
        match op:
            case "query":
                return self._query(args["cypher"], args["parameters"])
            case "applied":
                return self._applied
            case "write":
                self._engine.transact(_statements(args))
            case "seed":
                self._seed(args)
            case "apply":
                return self._apply(args)
            case "apply_all":
                self._apply_all(args["rows"])
            case "census":
                return self._engine.census()
            case "base":
                self._engine.checkpoint()
                base = self._files.save_base(args["name"], args["keep"])
                return {"base": msgspec.to_builtins(base), "census": self._engine.census()}
            case "close":
                self._engine.close()
                self._engine = None
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
        return {"applied": last, "count": count, "kept": kept}

    def _query(self, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        assert self._engine is not None
        try:
            return self._engine.run(cypher, parameters)
        except (RuntimeError, ValueError) as error:
            raise Refused(str(error)) from error  # outside a transaction: nothing to roll back

    def _seed(self, args: Mapping[str, Any]) -> None:
        """Create the schema, each statement by itself, then the first rows together with the mark csn 0."""
        assert self._engine is not None
        for cypher in args["schema"]:
            self._engine.run(cypher, {})
        self._engine.transact([*_statements(args), (_CREATE_APPLIED, {"csn": 0, "token": ""})])
        self._engine.checkpoint()
        self._applied = 0

    def _apply(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Apply a transaction unless it was; the mark that says so is part of the same transaction."""
        assert self._engine is not None
        csn, previous = args["csn"], args["previous"]
        statements = _statements(args)
        if args["checked"]:
            if self._applied is None or self._applied < previous:
                return {"outcome": "gap", "applied": self._applied}
            if self._applied >= csn:
                return {"outcome": "already", "applied": self._applied}
            statements.append((_CREATE_APPLIED, {"csn": csn, "token": args["token"]}))
        elif not self._engine.run("MATCH (a:Applied {csn: $csn}) RETURN a.csn", {"csn": csn}):
            statements.append((_CREATE_APPLIED, {"csn": csn, "token": args["token"]}))
        self._engine.transact(statements)
        self._applied = max(csn, self._applied or 0)
        return {"outcome": "applied", "applied": self._applied}

    def _apply_all(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Apply transactions that follow each other in one transaction: it spares the syncs of a rebuilding."""
        assert self._engine is not None
        statements: list[Statement] = []
        for row in rows:
            if self._applied is None or row["previous"] > self._applied:
                raise ValueError(f"csn={row['csn']} follows {row['previous']}, and applied={self._applied}")
            statements += [*_statements(row), (_CREATE_APPLIED, {"csn": row["csn"], "token": row["token"]})]
            self._applied = row["csn"]
        self._engine.transact(statements)


def _statements(args: Mapping[str, Any]) -> list[Statement]:
    return [(cypher, parameters) for cypher, parameters in args["statements"]]


def serve(channel: SyncChannel) -> int:
    """Answer until the other end closes or the engine breaks; return the exit status.

    An answer with the error kind "CommitFailed" or "Broken" is the last one: the process ends after it.
    """
    server = GraphServer()
    while (message := channel.receive()) is not None:
        reply: dict[str, Any] = {"id": message["id"]}
        broken = False
        try:
            reply["ok"] = server.answer(message["op"], message["args"])
        except Refused as error:
            reply["error"] = {"kind": "Refused", "text": str(error)}
        except CommitFailed as error:
            broken = True
            reply["error"] = {"kind": "CommitFailed", "text": str(error)}
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent must hear of it
            broken = True
            reply["error"] = {"kind": "Broken", "text": f"{type(error).__name__}: {error}"}
        channel.send(reply)
        if broken:
            return EXIT_BROKEN
    return 0


def main() -> None:
    """Entry point of the process; leaves without running the engine's destructors, which may write or crash."""
    die_with_parent()
    parser = argparse.ArgumentParser(description="hosts the graph engine; started by its supervisor")
    parser.add_argument("--fd", type=int, required=True)
    status = serve(SyncChannel(socket.socket(fileno=parser.parse_args().fd)))
    os._exit(status)


if __name__ == "__main__":
    main()
