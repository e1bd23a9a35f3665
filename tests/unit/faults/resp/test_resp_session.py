"""Which reply answers which request, and what a request says about itself."""

from __future__ import annotations

import pytest

from chaos.faults.network.resp.commands import arguments_of, keys_of, name_of, shown
from chaos.faults.network.resp.framer import Frame, Framer
from chaos.faults.network.resp.session import Exchange, Session


def request(session: Session, line: str) -> Exchange | None:
    """Send a request of words without spaces in them."""
    words = line.split()
    raw = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
    (frame,) = Framer(requests=True).feed(raw)
    return session.request(frame)


def reply(raw: bytes) -> Frame:
    """Return a frame of the server."""
    (frame,) = Framer(requests=False).feed(raw)
    return frame


def answered(session: Session, raw: bytes) -> str | None:
    """Receive a frame and return the command that it answers; None for one that answers nothing."""
    if session.is_push(reply(raw)):
        return None
    exchange = session.answer()
    assert exchange is not None
    return exchange.name


def array(*words: str, kind: str = "*") -> bytes:
    """Return an array of bulks."""
    return f"{kind}{len(words)}\r\n".encode() + b"".join(
        b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words
    )


def test_a_transaction_is_answered_in_order() -> None:
    """MULTI, the queued commands and EXEC get one reply each."""
    session = Session()
    for line in ("MULTI", "SET a 1", "INCR b", "EXEC"):
        request(session, line)
    replies = (b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n", b"*2\r\n+OK\r\n:1\r\n")
    assert [answered(session, raw) for raw in replies] == ["MULTI", "SET", "INCR", "EXEC"]
    assert not session.outstanding


def test_resp2_subscriptions_are_confirmed_channel_by_channel() -> None:
    """Confirmations and messages answer nothing; a command behind them gets its own reply."""
    session = Session()
    request(session, "SUBSCRIBE one two")
    request(session, "PING")
    assert answered(session, array("subscribe", "one")[:-1] + b"\n") is None
    assert session.outstanding == 2
    assert answered(session, array("subscribe", "two")) is None
    assert session.outstanding == 1
    assert answered(session, array("message", "one", "hello")) is None
    assert answered(session, array("pong", "")) == "PING"
    request(session, "UNSUBSCRIBE")
    assert answered(session, array("unsubscribe", "one")) is None
    assert session.outstanding == 1
    assert answered(session, array("unsubscribe", "two")) is None
    assert not session.outstanding
    request(session, "LRANGE l 0 -1")
    assert answered(session, array("message", "one", "hello")) == "LRANGE"


def test_unsubscribing_from_nothing_is_confirmed_once() -> None:
    """The server says so with a null channel."""
    session = Session()
    request(session, "PUNSUBSCRIBE")
    assert answered(session, b"*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n") is None
    assert not session.outstanding


def test_resp3_pushes_stand_outside_the_order() -> None:
    """Messages and invalidations may come between a request and its reply; confirmations still count."""
    session = Session()
    request(session, "HELLO 3")
    assert answered(session, b"%1\r\n+proto\r\n:3\r\n") == "HELLO"
    assert session.protocol == 3
    request(session, "SUBSCRIBE one")
    request(session, "GET k")
    assert answered(session, array("subscribe", "one", kind=">")) is None
    assert answered(session, array("message", "one", "x", kind=">")) is None
    assert answered(session, array("invalidate", "k", kind=">")) is None
    assert answered(session, b"$1\r\nv\r\n") == "GET"


def test_in_resp3_an_array_is_a_reply_whatever_is_in_it() -> None:
    """A subscriber's list that reads like a message answers its request, and the replies behind it their own."""
    session = Session()
    for line in ("HELLO 3", "SUBSCRIBE one", "LRANGE l 0 -1", "GET k"):
        request(session, line)
    assert answered(session, b"%1\r\n+proto\r\n:3\r\n") == "HELLO"
    assert answered(session, array("subscribe", "one", kind=">")) is None
    assert answered(session, array("message", "x")) == "LRANGE"
    assert answered(session, b"$1\r\nv\r\n") == "GET"
    assert not session.outstanding


def test_resp3_shows_itself_to_who_came_late() -> None:
    """A type that RESP2 has not tells what is spoken on a connection whose HELLO nobody has read."""
    session = Session()
    request(session, "SUBSCRIBE one")
    assert answered(session, array("subscribe", "one", kind=">")) is None
    request(session, "LRANGE l 0 -1")
    assert answered(session, array("message", "x")) == "LRANGE"
    assert session.protocol == 3


def test_what_came_before_hello_is_answered_in_resp2() -> None:
    """Behind a subscription, HELLO changes nothing about frames before its own reply, and nothing when refused."""
    session = Session()
    for line in ("SUBSCRIBE one", "HELLO 3 AUTH a b", "PING", "HELLO 3"):
        request(session, line)
    assert answered(session, array("subscribe", "one")) is None
    assert answered(session, b"-WRONGPASS\r\n") == "HELLO"
    assert session.protocol == 3
    assert answered(session, array("message", "one", "x")) is None
    assert answered(session, array("pong", "")) == "PING"
    assert answered(session, b"-NOPROTO\r\n") == "HELLO"
    assert session.protocol == 2


def test_a_null_in_front_of_a_push_is_skipped() -> None:
    """It has no body, so the item behind it is read as what it is."""
    assert Session().is_push(reply(b">2\r\n$-1\r\n+a$zz\r\n"))


def test_a_refused_subscription_is_answered_like_any_command() -> None:
    """An error takes the place of the confirmations."""
    session = Session()
    request(session, "SUBSCRIBE one two")
    request(session, "PING")
    assert answered(session, b"-NOPERM\r\n") == "SUBSCRIBE"
    assert answered(session, b"+PONG\r\n") == "PING"


def test_client_reply_off_and_skip_keep_replies_back() -> None:
    """OFF silences all until ON, which is answered; SKIP silences itself and the next command."""
    session = Session()
    silent = [request(session, line) for line in ("CLIENT REPLY OFF", "SET a 1", "CLIENT REPLY SKIP")]
    assert not any(one.answered for one in silent if one)
    request(session, "CLIENT REPLY ON")
    request(session, "CLIENT REPLY SKIP")
    request(session, "SET b 1")
    request(session, "GET b")
    assert answered(session, b"+OK\r\n") == "CLIENT"
    assert answered(session, b"$1\r\n1\r\n") == "GET"
    assert not session.outstanding


def test_names_come_from_setname_and_hello() -> None:
    """The name holds for the request that gives it and for those behind; RESET takes it away."""
    session = Session()
    assert [one.client for line in ("GET a", "CLIENT SETNAME alice", "GET a") if (one := request(session, line))] == [
        None,
        "alice",
        "alice",
    ]
    request(session, "HELLO 3 AUTH user secret SETNAME bob")
    assert session.client == "bob"
    request(session, "RESET")
    assert (session.client, session.protocol) == (None, 2)


def test_subscribe_inside_multi_is_queued() -> None:
    """It gets one reply there, as any command."""
    session = Session()
    request(session, "MULTI")
    request(session, "SUBSCRIBE one two")
    assert answered(session, b"+OK\r\n") == "MULTI"
    assert answered(session, b"+QUEUED\r\n") == "SUBSCRIBE"


def test_ghosts_and_forgotten_requests_keep_the_order() -> None:
    """A request that the proxy sent is answered in its turn, one that it swallowed not at all."""
    session = Session()
    dropped = request(session, "SET a 1")
    session.ghost((b"DISCARD",))
    request(session, "GET a")
    assert dropped is not None
    session.forget(dropped)
    assert session.head is not None
    assert session.head.ghost
    assert answered(session, b"+OK\r\n") == "DISCARD"
    assert answered(session, b"$-1\r\n") == "GET"


def test_empty_lines_are_no_requests() -> None:
    """Servers let them pass, and so do we."""
    session = Session()
    frames = Framer(requests=True).feed(b"\r\n*0\r\nPING\r\n")
    assert [one.name if (one := session.request(frame)) else None for frame in frames] == [None, None, "PING"]


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("GET a", "a"),
        ("SET a v EX 10", "a"),
        ("MSET a 1 b 2", "a b"),
        ("DEL a b c", "a b c"),
        ("EVALSHA abcdef 2 a b arg", "a b"),
        ("EVAL script 0 a", ""),
        ("EVAL script x a", ""),
        ("EVAL script -1 a", ""),
        (f"EVAL script {'9' * 5000} a", ""),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS s1 s2 > >", "s1 s2"),
        ("XREAD COUNT 1", ""),
        ("BITOP AND dest a b", "dest a b"),
        ("OBJECT ENCODING a", "a"),
        ("BLPOP a b 0", "a b"),
        ("ZUNION 2 a b WEIGHTS 1 2", "a b"),
        ("RENAME a b", "a b"),
        ("EXEC", ""),
        ("AUTH user secret", ""),
        ("CLIENT SETNAME secret", ""),
        ("PUBLISH channel text", "channel"),
        ("MODULE.CMD a", "a"),
    ],
)
def test_keys(line: str, keys: str) -> None:
    """The keys of a request, and never a value or a password."""
    arguments = tuple(word.encode() for word in line.split())
    assert [key.decode() for key in keys_of(name_of(arguments), arguments)] == keys.split()


def test_names_are_never_values() -> None:
    """What does not look like a command is not told."""
    (frame,) = Framer(requests=True).feed(b"*1\r\n$9\r\nmy secret\r\n")
    assert name_of(arguments_of(frame)) == "?"
    assert name_of(()) == "?"
    assert shown(b"a\r\nb\x00\xff") == "a..b.\\xff"
