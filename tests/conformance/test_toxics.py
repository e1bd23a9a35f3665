"""Toxics over the API: names, streams, defaults, order, changes; the same on both servers."""

from __future__ import annotations

from typing import Any

import pytest
from api_support import Api

SHAPES = {
    "latency": {"latency": 5, "jitter": 1},
    "bandwidth": {"rate": 100},
    "slow_close": {"delay": 5},
    "timeout": {"timeout": 5},
    "reset_peer": {"timeout": 5},
    "slicer": {"average_size": 64, "size_variation": 8, "delay": 10},
    "limit_data": {"bytes": 100},
    "noop": {},
}


@pytest.fixture(autouse=True)
def _proxy(api: Api) -> None:
    api.create()


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
@pytest.mark.parametrize("kind", SHAPES)
def test_create(api: Api, kind: str, stream: str) -> None:
    """A toxic is shown with all its attributes in order; 200, not 201."""
    reply = api.post("/proxies/p/toxics", {"type": kind, "stream": stream, "attributes": SHAPES[kind]})
    assert reply.status == 200
    expected = {"attributes": SHAPES[kind], "name": f"{kind}_{stream}", "type": kind, "stream": stream, "toxicity": 1}
    assert reply.json == expected
    assert list(reply.json) == list(expected)
    assert list(reply.json["attributes"]) == list(SHAPES[kind])
    assert api.get(f"/proxies/p/toxics/{kind}_{stream}").text == reply.text
    assert api.get("/proxies/p/toxics").json == api.get("/proxies/p").json["toxics"] == [expected]


@pytest.mark.parametrize("kind", [kind for kind in SHAPES if kind != "slicer"])
def test_defaults(api: Api, kind: str) -> None:
    """Downstream, toxicity 1, all attributes 0. A slicer without attributes ends Toxiproxy, and is another test."""
    assert api.toxic(kind) == {
        "attributes": dict.fromkeys(SHAPES[kind], 0),
        "name": f"{kind}_downstream",
        "type": kind,
        "stream": "downstream",
        "toxicity": 1,
    }


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "invalid toxic type"),
        ({"type": "nothing"}, 400, "invalid toxic type"),
        ({"type": "Latency"}, 400, "invalid toxic type"),
        ({"type": "latency", "stream": "sideways"}, 400, "stream was invalid, can be either upstream or downstream"),
        ({"type": "nothing", "stream": ""}, 400, "stream was invalid, can be either upstream or downstream"),
        ({"type": "latency", "name": "taken"}, 409, "toxic already exists"),
        ({"type": "noop", "name": "taken", "stream": "upstream", "attributes": {}}, 409, "toxic already exists"),
        ({"type": "nothing", "name": "taken"}, 400, "invalid toxic type"),
    ],
)
def test_refusals(api: Api, body: dict[str, Any], status: int, error: str) -> None:
    """Stream, then type, then name; a name is taken on both streams. Nothing is added."""
    api.toxic("noop", name="taken")
    reply = api.post("/proxies/p/toxics", body)
    assert (reply.status, reply.error) == (status, error)
    assert len(api.get("/proxies/p/toxics").json) == 1


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ('{"type":5}', "number into Go struct field ToxicWrapper.type of type string"),
        ('{"toxicity":"1"}', "string into Go struct field ToxicWrapper.toxicity of type float32"),
        ('{"toxicity":1e99}', "number 1e99 into Go struct field ToxicWrapper.toxicity of type float32"),
        ('{"attributes":5}', "number into Go struct field ToxicWrapper.attributes of type toxics.NoopToxic"),
        ("5", "number into Go value of type toxics.ToxicWrapper"),
        (
            '{"type":"slicer","attributes":{"average_size":"1"}}',
            "string into Go struct field SlicerToxic.attributes.average_size of type int",
        ),
        (
            '{"type":"limit_data","attributes":{"bytes":1.5}}',
            "number 1.5 into Go struct field LimitDataToxic.attributes.bytes of type int64",
        ),
        (
            '{"type":"reset_peer","attributes":{"timeout":[]}}',
            "array into Go struct field ResetToxic.attributes.timeout of type int64",
        ),
    ],
)
def test_bodies_that_do_not_fit(api: Api, body: str, place: str) -> None:
    """Each is 400 with Go's words."""
    reply = api.post("/proxies/p/toxics", body)
    assert (reply.status, reply.error) == (400, f"bad request body: json: cannot unmarshal {place}")


def test_streams_in_any_case(api: Api) -> None:
    """A stream is known in any case, and shown as it was sent, in the default name too."""
    shown = api.toxic("latency", stream="UpStream")
    assert (shown["stream"], shown["name"]) == ("UpStream", "latency_UpStream")
    api.toxic("latency")
    assert [toxic["stream"] for toxic in api.get("/proxies/p/toxics").json] == ["UpStream", "downstream"]


def test_order(api: Api) -> None:
    """Upstream ones first, then downstream, each in order of creation."""
    for name, stream in (("z", "downstream"), ("b", "upstream"), ("y", "downstream"), ("a", "upstream")):
        api.toxic("noop", name=name, stream=stream)
    assert [toxic["name"] for toxic in api.get("/proxies/p/toxics").json] == ["b", "a", "z", "y"]


@pytest.mark.parametrize(("given", "shown"), [("0.1", "0.1"), ("0.123456789", "0.12345679"), ("0", "0"), ("1.0", "1")])
def test_toxicity_has_single_precision(api: Api, given: str, shown: str) -> None:
    """A toxicity is rounded to 32 bits, and shown as short as can be."""
    reply = api.post("/proxies/p/toxics", f'{{"type":"noop","toxicity":{given}}}')
    assert reply.text.endswith(f'"toxicity":{shown}}}')


def test_attributes_by_go_s_rules(api: Api) -> None:
    """Keys in any case, null is the default, unknown ones are ignored, null for all of them too."""
    body = '{"type":"latency","attributes":{"LATENCY":5,"jitter":null,"more":"x"}}'
    assert api.post("/proxies/p/toxics", body).json["attributes"] == {"latency": 5, "jitter": 0}
    assert api.toxic("bandwidth", attributes=None)["attributes"] == {"rate": 0}


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_change(api: Api, method: str) -> None:
    """What is given changes; the rest stays; type, stream and name always do."""
    api.toxic("latency", name="t", attributes={"latency": 5, "jitter": 1})
    path = "/proxies/p/toxics/t"
    changed = api.call(method, path, {"attributes": {"latency": 7}}).json
    assert (changed["attributes"], changed["toxicity"]) == ({"latency": 7, "jitter": 1}, 1)
    changed = api.call(method, path, {"toxicity": 0.5, "type": "noop", "name": "u", "stream": "upstream"}).json
    assert changed == {
        "attributes": {"latency": 7, "jitter": 1},
        "name": "t",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 0.5,
    }
    for nothing in ("{}", "null", '{"attributes":null,"toxicity":null}', '{"attributes":{"jitter":null}}'):
        assert api.call(method, path, nothing).json == changed
    assert api.get(path).json == changed


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ('{"attributes":5}', "number into Go struct field .attributes of type toxics.LatencyToxic"),
        ('{"attributes":{"jitter":true}}', "bool into Go struct field LatencyToxic.attributes.jitter of type int64"),
        ('{"toxicity":[]}', "array into Go struct field .toxicity of type float32"),
    ],
)
def test_changes_that_do_not_fit(api: Api, body: str, place: str) -> None:
    """Each is 400 with Go's words."""
    api.toxic("latency", name="t", attributes={"latency": 5})
    reply = api.patch("/proxies/p/toxics/t", body)
    assert (reply.status, reply.error) == (400, f"bad request body: json: cannot unmarshal {place}")


def test_delete(api: Api) -> None:
    """A toxic goes with 204; the others stay."""
    api.toxic("noop", name="a")
    api.toxic("noop", name="b")
    assert api.delete("/proxies/p/toxics/a").status == 204
    assert [toxic["name"] for toxic in api.get("/proxies/p/toxics").json] == ["b"]
    assert api.delete("/proxies/p/toxics/a").error == "toxic not found"


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_what_is_not_there(api: Api, method: str) -> None:
    """The proxy is looked up first, then the toxic, then the body is read."""
    assert api.call(method, "/proxies/q/toxics/t", "{").error == "proxy not found"
    assert api.call(method, "/proxies/p/toxics/t", "{").error == "toxic not found"


def test_toxics_of_no_proxy(api: Api) -> None:
    """The proxy is looked up before the body is read."""
    assert api.post("/proxies/q/toxics", "{").error == "proxy not found"
    assert api.get("/proxies/q/toxics").error == "proxy not found"


def test_names_that_need_escapes(api: Api) -> None:
    """A toxic may have any name; one with a slash cannot be addressed."""
    api.toxic("noop", name="a b?")
    assert api.get("/proxies/p/toxics/a%20b%3F").json["name"] == "a b?"
    api.toxic("noop", name="a/b", stream="upstream")
    assert api.get("/proxies/p/toxics/a%2Fb").text == "404 page not found\n"
