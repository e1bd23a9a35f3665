"""JSON that is nearly right, on two sockets at once, while bytes cross a proxy among hundreds of toxics.

Every body begins as one that means something; then values get other types, keys come twice, collections grow, texts
end too early. Whatever comes of it, the server answers, holds nothing that it should have refused, and serves others.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from api_support import RANGES, Api, Reply, Upstream, connect, exchange, start_chaos, timed
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

REQUESTS = 25
EXAMPLES = 200 if os.environ.get("CHAOS_DEEP") else 20
"""Two sockets with so many each: 1,000 requests as a rule; 10,000 with CHAOS_DEEP set, as in the nightly tests."""

TOXICS_MAX = 64
WAIT_S_MAX = 2.0
KEPT = ["crowd0", "crowd1", "crowd2", "live"]
REFUSALS = re.compile(r"listen tcp|address |lookup |missing port|too many colons")
LETTERS = st.characters(exclude_characters=":", exclude_categories=("Cs",))
"""Without colons, no text of these is an address whose name would have to be looked up."""


@dataclass(frozen=True)
class Raw:
    """A piece of JSON text as it is."""

    text: str


@dataclass(frozen=True)
class Members:
    """An object whose keys may come more than once."""

    pairs: list[tuple[str, Any]]


def written(value: Any) -> str:
    """Return the JSON of a value."""
    match value:
        case Raw():
            return value.text
        case Members():
            return "{" + ",".join(f"{json.dumps(key)}:{written(member)}" for key, member in value.pairs) + "}"
        case list():
            return "[" + ",".join(written(item) for item in value) + "]"
    return json.dumps(value)


NUMBERS = ["-0", "1.0", "1e2", "1E400", "-1e-400", "01", "0x1", "+1", "1.", ".5", "9" * 400, "-", "NaN", "Infinity"]
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([Raw(number) for number in NUMBERS]),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(LETTERS, max_size=8),
    st.sampled_from(["x" * 20_000, [0] * 5000, [[]] * 3000, Members([(f"k{index}", index) for index in range(3000)])]),
    st.sampled_from([Raw("[" * depth + "]" * depth) for depth in (2, 300, 10_001)]),
    st.lists(st.integers(0, 3), max_size=3),
    st.builds(Members, st.lists(st.tuples(st.sampled_from(["latency", "rate", ""]), st.integers(0, 9)), max_size=3)),
    st.sampled_from([Raw('"\\ud800"'), Raw('"\\u00e9\\n"'), Raw('"\\x"'), Raw('"a\nb"'), Raw("tru"), Raw("nulll")]),
)


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw what is right, nineteen times out of twenty."""
    return st.sampled_from([good] * 19 + [odd]).flatmap(lambda chosen: chosen)


def cased(name: str) -> st.SearchStrategy[str]:
    """Draw a key, usually as it is written."""
    return st.sampled_from([name] * 9 + [name.upper(), name.title(), name + "x"])


def members(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw an object with some of these fields, in any order, some twice."""
    pairs = [st.tuples(cased(name), mostly(value)) for name, value in values.items()]
    every = st.tuples(*pairs).flatmap(lambda drawn: st.permutations(list(drawn)))
    more = st.lists(st.one_of(*pairs), max_size=2)
    return st.builds(lambda drawn, again: Members([*drawn, *again]), every, more)


names = st.sampled_from(["a", "b", "c", "d"])
upstreams = st.sampled_from(["127.0.0.1:1", "nonsense", "[::1]:2"])
listens = st.sampled_from(["127.0.0.1:0", "", "[::1]:0", "nonsense", "1.2.3.4:5:6", "127.0.0.1:99999"])
numbers = st.sampled_from([0, 1, 5, 1000, -1, 2**62, 2**63])
attributes = members(**{name: numbers for kind in RANGES.values() for name in kind})
toxics = members(
    type=st.sampled_from(list(RANGES)),
    name=st.sampled_from(["t", "u", "v"]),
    stream=st.sampled_from(["upstream", "downstream"]),
    toxicity=st.sampled_from([0, 0.5, 1, 1.5]),
    attributes=attributes,
)
crowds = st.integers(1, 70).map(lambda count: [Members([("type", "noop"), ("name", str(i))]) for i in range(count)])
proxies = members(name=names, upstream=upstreams, listen=listens, enabled=st.booleans())
populated = members(
    name=names, upstream=upstreams, listen=listens, toxics=st.one_of(st.lists(toxics, max_size=3), crowds)
)


def spoilt(text: bytes) -> st.SearchStrategy[bytes]:
    """Draw a body, usually the whole of it, or its beginning, or one with a wrong byte or something behind."""
    places = st.integers(0, max(0, len(text) - 1))
    whole = st.just(text)
    begun = places.map(lambda at: text[:at])
    wrong = st.builds(lambda at, byte: text[:at] + byte + text[at + 1 :], places, st.binary(min_size=1, max_size=1))
    longer = st.binary(max_size=10).map(lambda behind: text + behind)
    return st.sampled_from([whole] * 7 + [begun, wrong, longer]).flatmap(lambda chosen: chosen)


@dataclass(frozen=True)
class Request:
    """A request with a body."""

    method: str
    path: str
    body: bytes


def sent(method: str, path: st.SearchStrategy[str], body: st.SearchStrategy[Any]) -> st.SearchStrategy[Request]:
    """Draw a request whose body was spoilt."""
    texts = body.map(lambda value: written(value).encode("utf-8", "replace")).flatmap(spoilt)
    return st.builds(Request, st.just(method), path, texts)


requests = st.one_of(
    sent("POST", st.just("/proxies"), proxies),
    sent("POST", st.just("/populate"), mostly(st.lists(populated, max_size=4))),
    sent("PATCH", names.map("/proxies/{}".format), proxies),
    sent("POST", names.map("/proxies/{}/toxics".format), toxics),
    sent("PATCH", names.map("/proxies/{}/toxics/t".format), members(attributes=attributes, toxicity=st.just(1))),
    st.builds(Request, st.just("DELETE"), names.map("/proxies/{}".format), st.just(b"")),
    st.builds(Request, st.just("DELETE"), names.map("/proxies/{}/toxics/t".format), st.just(b"")),
    st.builds(Request, st.just("GET"), st.sampled_from(["/proxies", "/metrics", "/proxies/a/toxics"]), st.just(b"")),
)


def _no_constant(word: str) -> None:
    raise ValueError(word)


DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_int=str, parse_float=str)


def broken(body: bytes) -> bool:
    """Tell whether Python finds no JSON at the beginning of a body."""
    try:
        DECODER.raw_decode(body.decode("utf-8", "replace").lstrip(" \t\r\n"))
    except ValueError:
        return True
    except RecursionError:
        return False
    return False


def check(request: Request, reply: Reply) -> None:
    """An answer is one of those there are, and a body that is no JSON is told as such."""
    assert reply.status in (200, 201, 204, 400, 404, 409, 500), (request, reply)
    if reply.status == 500:
        assert REFUSALS.match(reply.error), (request, reply)
    if request.body and broken(request.body):
        assert reply.status in (400, 404), (request, reply)


def check_proxy(shown: dict[str, Any]) -> None:
    """A proxy is described with the right types, and nothing about it is out of range."""
    assert [type(shown[key]) for key in ("name", "listen", "upstream", "enabled")] == [str, str, str, bool]
    assert len(shown["toxics"]) <= TOXICS_MAX
    assert len({toxic["name"] for toxic in shown["toxics"]}) == len(shown["toxics"])
    for toxic in shown["toxics"]:
        assert toxic["stream"].lower() in ("upstream", "downstream")
        assert 0 <= toxic["toxicity"] <= 1
        ranges = RANGES[toxic["type"]]
        assert list(toxic["attributes"]) == list(ranges)
        for name, (low, high) in ranges.items():
            assert low <= toxic["attributes"][name] <= high


class Rig:
    """A server with hundreds of toxics, and a connection through one of its proxies that never rests."""

    def __init__(self, log: Path) -> None:
        self.api = start_chaos("--seed", "1", log=log)
        self.other = Api(self.api.kind, self.api.host, self.api.port, self.api.process)
        self._upstream = Upstream()
        for name in KEPT:
            self.api.create(name, upstream=self._upstream.address)
            for index in range(TOXICS_MAX):
                kind, values = [("noop", {}), ("latency", {}), ("slicer", {"average_size": 50})][index % 3]
                self.api.toxic(kind, name, name=str(index), attributes=values)
        self.kept = {name: self.api.get(f"/proxies/{name}").json for name in KEPT}
        self._client = connect(self.kept["live"]["listen"])
        self._over = threading.Event()
        self._crossing = threading.Thread(target=self._cross)
        self.rounds = 0
        self.longest_s = 0.0
        self._crossing.start()

    def _cross(self) -> None:
        while not self._over.wait(0.005):
            with timed() as took:
                assert exchange(self._client, b"x" * 200) == b"x" * 200
            self.longest_s = max(self.longest_s, took[0])
            self.rounds += 1

    def prepare(self) -> None:
        """Delete what the requests have made, and make again what they ask for."""
        for name in set(self.api.get("/proxies").json) - set(KEPT):
            if "/" not in name:
                self.api.delete(f"/proxies/{quote(name, safe='')}")
        toxic = {"type": "latency", "name": "t"}
        made = [{"name": name, "upstream": "u:1", "toxics": [toxic]} for name in ("a", "b", "c", "d")]
        assert self.api.post("/populate", made).status == 201

    def close(self) -> int:
        """End all of it and return the server's exit code."""
        self._over.set()
        self._crossing.join()
        self._client.close()
        self._upstream.close()
        self.other._connection.close()
        return self.api.stop()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One rig for all of it; no request may have met a defect, or have kept the crossing bytes waiting."""
    log = tmp_path_factory.mktemp("random") / "log"
    made = Rig(log)
    yield made
    assert made.close() == 0
    assert made.rounds > 100
    assert made.longest_s < WAIT_S_MAX
    assert not re.search("Traceback|ERROR", log.read_text())


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
@given(*[st.lists(requests, min_size=REQUESTS, max_size=REQUESTS)] * 2)
def test_random_json(rig: Rig, one: list[Request], two: list[Request]) -> None:
    """Whatever two clients send at once: answers, a state that makes sense, and traffic that goes on."""

    def _send(api: Api, sequence: list[Request]) -> None:
        for request in sequence:
            check(request, api.call(request.method, request.path, request.body or None))

    rig.prepare()
    with ThreadPoolExecutor(2) as clients:
        done = [clients.submit(_send, api, sequence) for api, sequence in ((rig.api, one), (rig.other, two))]
    for future in done:
        future.result()
    shown = rig.api.get("/proxies").json
    for proxy in shown.values():
        check_proxy(proxy)
    assert {name: shown[name] for name in KEPT} == rig.kept
    assert rig.api.alive()
