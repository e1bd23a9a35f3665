"""The database that a run borrows, over a plain socket: whose keys are whose, and what answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaos.backends.docker.database import BEFORE_KEY, OWNER_KEY, RUN_KEYS, Database, DatabaseError, readable, wait_for
from chaos.transactions.secondaries import APPLIED_KEY, REFUSED_KEY
from chaos.workload import Transfers


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Serve one connection that gives these answers, one for each request; yield its port and what was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def _serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    asked.append(connection.recv(2**16))
                    connection.sendall(answer)

        server = threading.Thread(target=_serve)
        server.start()
        yield listener.getsockname()[1], asked
        server.join()


def test_every_key_of_our_own_is_known() -> None:
    """What the workload and the coordinators write into Redis is what a run can have made."""
    workload = Transfers(accounts=3, clients=1, rate=10, seconds=1, deadline="1s")
    rows = [command[1] for command in workload.genesis().rows.redis]
    keys = {str(key) for key in rows} | {APPLIED_KEY, REFUSED_KEY, OWNER_KEY, BEFORE_KEY, "marks", "balance:0"}
    assert [key for key in sorted(keys) if not RUN_KEYS.fullmatch(key)] == []


@pytest.mark.parametrize(
    "key", ["invoice:1", "balance", "balance:x", "my balance:1", "marks2", "chaos:mine", "", "\udcff"]
)
def test_a_key_of_somebody_is_not(key: str) -> None:
    """Whatever has not the whole form stays."""
    assert not RUN_KEYS.fullmatch(key)


def test_keys_are_sorted_by_whose_they_are() -> None:
    """All pages are read; the owner's key comes last, so that a removal that is cut short still says whose the rest is."""
    first = b"*2\r\n$2\r\n17\r\n*3\r\n$11\r\nchaos:owner\r\n$9\r\ninvoice:1\r\n$5\r\nmarks\r\n"
    second = b"*2\r\n$1\r\n0\r\n*2\r\n$2\r\n\xff\xfe\r\n$8\r\nlimits:1\r\n"
    with answering(first, second) as (port, asked), Database("127.0.0.1", port) as database:
        ours, others = database.sort_keys()
    assert ours == ["limits:1", "marks", OWNER_KEY]
    assert others == ["invoice:1", "\udcff\udcfe"]
    assert readable(others) == r"invoice:1, \xff\xfe"
    assert asked[1] == b"*4\r\n$4\r\nSCAN\r\n$2\r\n17\r\n$5\r\nCOUNT\r\n$4\r\n1000\r\n"


def test_bytes_that_are_no_text_go_there_and_back() -> None:
    """A key is removed under the name that it was found by."""
    with answering(b"$2\r\n\xff\xfe\r\n", b":1\r\n") as (port, asked), Database("127.0.0.1", port) as database:
        key = database("RANDOMKEY")
        database.remove([str(key)])
    assert asked[1] == b"*2\r\n$3\r\nDEL\r\n$2\r\n\xff\xfe\r\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"-NOAUTH Authentication required.\r\n", "NOAUTH Authentication required."),
        (b"", "the connection was closed"),
        (b"$5\r\nab", "the connection was closed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not a server of this kind"),
    ],
)
def test_an_answer_that_helps_nobody_is_an_error(answer: bytes, words: str) -> None:
    """A refusal, an end in the middle and a stranger are told in words."""
    with (
        answering(answer) as (port, _),
        Database("127.0.0.1", port) as database,
        pytest.raises(DatabaseError, match=words),
    ):
        database("GET", OWNER_KEY)


def test_a_server_that_never_answers_is_told() -> None:
    """With the last reason, when the time is over."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DatabaseError, match=r"no answer within 0\.1s: .*refused"):
        wait_for("127.0.0.1", port, 0.1)


def test_the_settings_are_given_back_once() -> None:
    """What is so already is not changed; nothing noted means that nothing was changed."""
    told = b"*2\r\n$11\r\nappendfsync\r\n$2\r\nno\r\n"
    with answering(b"$6\r\nalways\r\n", told, b"+OK\r\n") as (port, asked), Database("127.0.0.1", port) as database:
        assert database.give_settings_back() == "appendfsync=always"
    assert asked[2].split(b"\r\n")[2:9:2] == [b"CONFIG", b"SET", b"appendfsync", b"always"]
    for noted in (b"$2\r\nno\r\n", b"$-1\r\n"):
        with answering(noted, told) as (port, asked), Database("127.0.0.1", port) as database:
            assert database.give_settings_back() is None
        assert len(asked) == 2
