"""The explorer's workers: forked from a process that has imported everything, one bench each.

A worker has one thread and no memory that matters. It dies with the explorer, and what it forked dies with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, Self

from chaos._process import die_with_parent
from chaos.crashpoints.targets.base import text_of
from chaos.errors import ChaosError, HarnessError

Serve = Callable[[Any], Any]


class Pool:
    """Worker processes that answer requests. Use it as a context manager; leaving kills them."""

    def __init__(self, count: int, start: Callable[[int], Serve]) -> None:
        """Fork `count` workers; each calls `start` with its number, then the result with each request."""
        self._workers: dict[Connection, int] = {}
        for number in range(count):
            ours, theirs = Pipe()
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                ours.close()
                for other in self._workers:
                    other.close()
                _serve(theirs, parent, number, start)
            theirs.close()
            self._workers[ours] = pid

    def __enter__(self) -> Self:
        """Return the pool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the workers and reap them."""
        for connection, pid in self._workers.items():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            connection.close()
        self._workers.clear()

    def run(self, requests: Iterable[Any], until: Callable[[], bool] = lambda: False) -> Iterator[tuple[Any, Any]]:
        """Yield each request with its answer as they come; hand out no more once `until` holds.

        Raises HarnessError when a worker died or failed.
        """
        waiting = deque(requests)
        busy: dict[Connection, Any] = {}
        while waiting or busy:
            for connection in self._workers:
                if connection not in busy and waiting and not until():
                    busy[connection] = waiting.popleft()
                    connection.send(busy[connection])
            if not busy:
                return
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                yield busy.pop(ready), self._answer(ready)

    def _answer(self, connection: Connection) -> Any:
        try:
            good, answer = connection.recv()
        except EOFError as error:
            pid = self._workers.pop(connection)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            raise HarnessError(f"a worker of the explorer ended with status {status}") from error
        if not good:
            raise answer if isinstance(answer, ChaosError) else HarnessError(str(answer))
        return answer


def _serve(connection: Connection, parent: int, number: int, start: Callable[[int], Serve]) -> None:
    """Be a worker. Never returns."""
    try:
        os.setsid()  # Ctrl-C in a terminal is for the explorer, which ends us
        die_with_parent(parent)
        answer_to = start(number)
        gc.freeze()  # a collection in a forked process would touch every object, and so copy all memory
        while True:
            request = connection.recv()
            connection.send((True, answer_to(request)))
    except EOFError:
        pass
    except BaseException as error:  # noqa: BLE001  # the explorer tells it; this copy of it must not run on
        with contextlib.suppress(OSError, ValueError):
            connection.send((False, error if isinstance(error, ChaosError) else text_of(error)))
    finally:
        os._exit(0)
