"""Requests drawn at random, and after each of them: our server lives, and shows what a small model expects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from api_support import RANGES, Api, Reply, start_chaos
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

REQUESTS = 50
EXAMPLES = 200 if os.environ.get("CHAOS_DEEP") else 20
"""Together 1,000 requests as a rule; 10,000 with CHAOS_DEEP set, as in the nightly tests."""

BLANK = [b"null", b"{}", b" {} x", b'{"name":null}', b'{"attributes":null,"enabled":null}', b'{"a":[{}]}']
"""Bodies that say nothing."""

names = st.sampled_from(["a", "b", "c d", "é?", ""])
listens = st.sampled_from(
    [None, "", "127.0.0.1:0", "localhost:0", "[::1]:0", "nonsense", "1.2.3.4:5:6", "127.0.0.1:99999"]
)
upstreams = st.sampled_from(["127.0.0.1:1", "nonsense", "localhost:2", ""])
switches = st.sampled_from([None, True, False])
kinds = st.sampled_from([*RANGES, "nothing", ""])
streams = st.sampled_from(["upstream", "downstream", "UpStream", "sideways", None])
toxic_names = st.sampled_from(["t", "u v", "", None])
toxicities = st.sampled_from([None, 0, 0.5, 1, -1, 7])
numbers = st.sampled_from([0, 1, 5, 1000, -1, -(2**63), 2**62, 2**63 - 1])
attributes = st.dictionaries(st.sampled_from([name for kind in RANGES.values() for name in kind] + ["other"]), numbers)


@dataclass
class Toxic:
    """A toxic as the model knows it."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: dict[str, int]

    @property
    def shown(self) -> dict[str, Any]:
        """The toxic as the API must show it."""
        return {
            "attributes": self.attributes,
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
        }

    @property
    def possible(self) -> bool:
        """Whether all values are in range."""
        ranges = RANGES[self.type]
        inside = all(low <= self.attributes[name] <= high for name, (low, high) in ranges.items())
        if self.type == "slicer":
            inside = inside and self.attributes["size_variation"] < self.attributes["average_size"]
        return inside and 0 <= self.toxicity <= 1


@dataclass
class Proxy:
    """A proxy as the model knows it; `listen` is what the server said last."""

    upstream: str
    enabled: bool
    listen: str
    toxics: dict[str, Toxic] = field(default_factory=dict)


class Model:
    """What our server should hold."""

    def __init__(self) -> None:
        self.proxies: dict[str, Proxy] = {}

    def shown(self) -> dict[str, Any]:
        """Return what GET /proxies must say."""
        return {
            name: {
                "name": name,
                "listen": proxy.listen,
                "upstream": proxy.upstream,
                "enabled": proxy.enabled,
                "toxics": [
                    toxic.shown
                    for side in ("upstream", "downstream")
                    for toxic in proxy.toxics.values()
                    if toxic.stream.lower() == side
                ],
            }
            for name, proxy in sorted(self.proxies.items())
        }


def bindable(listen: str | None) -> bool:
    """Tell whether a proxy can listen there."""
    return listen in (None, "", "127.0.0.1:0", "localhost:0", "[::1]:0") or bool(
        re.fullmatch(r"(127\.0\.0\.1|\[::1\]):\d{1,5}", listen or "") and int((listen or "").rpartition(":")[2]) < 65536
    )


def given_of(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class Create:
    """POST /proxies."""

    name: str
    listen: str | None
    upstream: str
    enabled: bool | None

    def run(self, api: Api, model: Model) -> None:
        """Send it and compare."""
        fields = given_of(name=self.name, listen=self.listen, upstream=self.upstream, enabled=self.enabled)
        reply = api.post("/proxies", fields)
        enabled = self.enabled is not False
        if not (self.name and self.upstream):
            expected = 400
        elif self.name in model.proxies:
            expected = 409
        else:
            expected = 500 if enabled and not bindable(self.listen) else 201
        assert reply.status == expected, (self, reply)
        if expected == 201:
            listen = reply.json["listen"]
            assert listen == (self.listen or "") if not enabled else re.fullmatch(r"(127\.0\.0\.1|\[::1\]):\d+", listen)
            model.proxies[self.name] = Proxy(self.upstream, enabled, listen)


@dataclass(frozen=True)
class Update:
    """PATCH or POST /proxies/{name}."""

    method: str
    name: str
    listen: str | None
    upstream: str
    enabled: bool | None

    def run(self, api: Api, model: Model) -> None:
        """Send it and compare."""
        if not self.name:
            return
        fields = given_of(listen=self.listen, upstream=self.upstream, enabled=self.enabled)
        reply = api.call(self.method, f"/proxies/{quote(self.name)}", fields)
        proxy = model.proxies.get(self.name)
        if proxy is None:
            assert reply.status == 404
            return
        wanted = proxy.listen if self.listen is None else self.listen
        assert reply.status == (200 if bindable(wanted) else 500), (self, reply)
        if reply.status == 200:
            enabled = proxy.enabled if self.enabled is None else self.enabled
            assert reply.json["enabled"] == enabled
            model.proxies[self.name] = Proxy(self.upstream, enabled, reply.json["listen"], proxy.toxics)


@dataclass(frozen=True)
class Delete:
    """DELETE /proxies/{name}."""

    name: str

    def run(self, api: Api, model: Model) -> None:
        """Send it and compare."""
        if self.name:
            reply = api.delete(f"/proxies/{quote(self.name)}")
            assert reply.status == (204 if model.proxies.pop(self.name, None) else 404)


@dataclass(frozen=True)
class AddToxic:
    """POST /proxies/{name}/toxics."""

    proxy: str
    type: str
    stream: str | None
    name: str | None
    toxicity: float | None
    attributes: dict[str, int]

    def run(self, api: Api, model: Model) -> None:
        """Send it and compare."""
        if not self.proxy:
            return
        fields = given_of(type=self.type, stream=self.stream, name=self.name, toxicity=self.toxicity)
        reply = api.post(f"/proxies/{quote(self.proxy)}/toxics", {**fields, "attributes": self.attributes})
        proxy = model.proxies.get(self.proxy)
        if proxy is None:
            assert reply.status == 404
            return
        stream = self.stream or "downstream"
        if stream == "sideways" or self.type not in RANGES:
            assert reply.status == 400
            return
        values = {name: self.attributes.get(name, 0) for name in RANGES[self.type]}
        share = 1 if self.toxicity is None else self.toxicity
        toxic = Toxic(self.name or f"{self.type}_{stream}", self.type, stream, share, values)
        if toxic.name in proxy.toxics:
            assert reply.status == 409
            return
        assert reply.status == (200 if toxic.possible else 400), (self, reply)
        if toxic.possible:
            proxy.toxics[toxic.name] = toxic


@dataclass(frozen=True)
class UpdateToxic:
    """PATCH or POST /proxies/{name}/toxics/{toxic}; which toxic is told by its index."""

    method: str
    proxy: str
    index: int
    toxicity: float | None
    attributes: dict[str, int]

    def run(self, api: Api, model: Model) -> None:
        """Send it and compare."""
        proxy = model.proxies.get(self.proxy)
        toxic = list(proxy.toxics.values())[self.index % len(proxy.toxics)] if proxy and proxy.toxics else None
        path = f"/proxies/{quote(self.proxy)}/toxics/{quote(toxic.name if toxic else 'nobody')}"
        reply = api.call(self.method, path, {"attributes": self.attributes, **given_of(toxicity=self.toxicity)})
        if toxic is None:
            assert reply.status in (301, 404)
            return
        values = {name: self.attributes.get(name, value) for name, value in toxic.attributes.items()}
        share = toxic.toxicity if self.toxicity is None else self.toxicity
        changed = Toxic(toxic.name, toxic.type, toxic.stream, share, values)
        assert reply.status == (200 if changed.possible else 400), (self, reply)
        if changed.possible:
            assert proxy is not None
            proxy.toxics[toxic.name] = changed


@dataclass(frozen=True)
class DeleteToxic:
    """DELETE /proxies/{name}/toxics/{toxic}; which toxic is told by its index."""

    proxy: str
    index: int

    def run(self, api: Api, model: Model) -> None:
        """Send it and compare."""
        proxy = model.proxies.get(self.proxy)
        if proxy is None or not proxy.toxics:
            assert api.delete(f"/proxies/{quote(self.proxy or 'x')}/toxics/nobody").status == 404
            return
        name = list(proxy.toxics)[self.index % len(proxy.toxics)]
        assert api.delete(f"/proxies/{quote(self.proxy)}/toxics/{quote(name)}").status == 204
        del proxy.toxics[name]


@dataclass(frozen=True)
class Populate:
    """POST /populate."""

    proxies: list[dict[str, Any]]

    def run(self, api: Api, model: Model) -> None:
        """Send it and compare; a port that was given differs from 0, so what was ever on is always replaced."""
        reply = api.post("/populate", self.proxies)
        if not all(proxy["name"] and proxy["upstream"] for proxy in self.proxies):
            assert reply.status == 400
            return
        shown = reply.json["proxies"] or []
        for index, proxy in enumerate(self.proxies):
            old = model.proxies.get(proxy["name"])
            if not bindable(proxy["listen"]) and (old or proxy.get("enabled", True)):
                # Toxiproxy reads the address of a replacement first, and only then stops what it replaces.
                assert (reply.status, len(shown)) == (500, index), (self, reply)
                return
            if old and proxy["listen"] and (old.listen, old.upstream) == (proxy["listen"], proxy["upstream"]):
                assert not old.enabled  # only what was never on has port 0; it is left alone
                assert shown[index] == model.shown()[proxy["name"]]
                continue
            enabled = proxy.get("enabled", True)
            model.proxies[proxy["name"]] = Proxy(proxy["upstream"], enabled, shown[index]["listen"])
        assert (reply.status, len(shown)) == (201, len(self.proxies))


@dataclass(frozen=True)
class Reset:
    """POST /reset."""

    def run(self, api: Api, model: Model) -> None:
        """Send it and compare: everything or nothing."""
        reply = api.post("/reset")
        possible = all(proxy.enabled or bindable(proxy.listen) for proxy in model.proxies.values())
        assert reply.status == (204 if possible else 500), reply
        if possible:
            for name, proxy in model.proxies.items():
                proxy.enabled, proxy.toxics = True, {}
                proxy.listen = api.get(f"/proxies/{quote(name)}").json["listen"]


@dataclass(frozen=True)
class Noise:
    """Any method, path and body: an answer, and no change."""

    method: str
    path: str
    body: bytes

    def run(self, api: Api, model: Model) -> None:
        """Send it; a body of noise describes nothing. What is off and can never be on answers that with 500."""
        reply: Reply = api.call(self.method, self.path, self.body)
        said_something = self.body not in (*BLANK, b"[]")
        assert reply.status in (200, 301, 400, 404, 405) or not said_something, (self, reply)
        assert reply.status in (200, 201, 301, 400, 404, 405, 500), (self, reply)


@dataclass(frozen=True)
class RawNoise:
    """Bytes that are no request."""

    data: bytes

    def run(self, api: Api, model: Model) -> None:
        """Send them on a connection of their own and close it."""
        answer = api.raw(self.data, shut=True)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 ")


def populated() -> st.SearchStrategy[dict[str, Any]]:
    """Draw a proxy for populate whose name is not drawn twice."""
    optional = st.sampled_from([{}, {"enabled": True}, {"enabled": False}])
    fixed = st.fixed_dictionaries(
        {"name": names, "upstream": upstreams, "listen": st.sampled_from(["127.0.0.1:0", "", "[::1]:0", "nonsense"])}
    )
    return st.builds(lambda proxy, switch: {**proxy, **switch}, fixed, optional)


paths = st.sampled_from(
    ["/", "/proxies", "/proxies/a", "/proxies/a/toxics", "/proxies/a/toxics/t", "/populate", "/x", "//"]
)
noise = st.one_of(st.binary(max_size=40), st.sampled_from([*BLANK, b"[]", b"[null]", b"[{", b"{", b'{"enabled":']))
indexes = st.integers(0, 5)
changing = st.sampled_from(["PATCH", "POST"])
requests = st.one_of(
    st.builds(Create, names, listens, upstreams, switches),
    st.builds(Create, st.sampled_from(["a", "b", "c d"]), st.none(), st.just("127.0.0.1:1"), st.none()),
    st.builds(Update, changing, names, listens, st.sampled_from(["127.0.0.1:1", "other:1"]), switches),
    st.builds(Delete, names),
    st.builds(AddToxic, names, kinds, streams, toxic_names, toxicities, attributes),
    st.builds(AddToxic, st.just("a"), st.sampled_from(list(RANGES)), streams, st.none(), st.none(), attributes),
    st.builds(UpdateToxic, changing, st.sampled_from(["a", "b"]), indexes, toxicities, attributes),
    st.builds(DeleteToxic, names, indexes),
    st.builds(Populate, st.lists(populated(), max_size=3, unique_by=lambda proxy: proxy["name"])),
    st.builds(Reset),
    st.builds(Noise, st.sampled_from(["POST", "PATCH", "PUT", "HEAD", "BREW"]), paths, noise),
    st.builds(RawNoise, st.binary(max_size=60)),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    """A server for all of it."""
    api = start_chaos("--seed", "1")
    yield api
    assert api.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # the request that failed is told; shrinking would send hundreds of thousands more
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(requests, min_size=REQUESTS, max_size=REQUESTS))
def test_random_requests(server: Api, sequence: list[Any]) -> None:
    """Whatever is asked, in whatever order, the server answers as the model says and lives on."""
    assert server.clear()
    model = Model()
    for request in sequence:
        request.run(server, model)
        assert server.get("/version").status == 200
        assert server.get("/proxies").json == model.shown(), request
    assert server.alive()
