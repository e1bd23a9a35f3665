"""Bodies as Go's decoder reads them: what is wrong, in which words, and what is let pass."""

from __future__ import annotations

import pytest
from api_support import Api

SYNTAX = [
    ("", "EOF"),
    (" \n", "EOF"),
    ("{", "unexpected EOF"),
    ('{"name"', "unexpected EOF"),
    ('{"name":}', "invalid character '}' looking for beginning of value"),
    ('{"name":1,}', "invalid character '}' looking for beginning of object key string"),
    ("{name:1}", "invalid character 'n' looking for beginning of object key string"),
    ('{"name" 1}', "invalid character '1' after object key"),
    ('{"name":1 "x":2}', "invalid character '\"' after object key:value pair"),
    ("[1 2]", "invalid character '2' after array element"),
    ('{"name":01}', "invalid character '1' after object key:value pair"),
    ("nulx", "invalid character 'x' in literal null (expecting 'l')"),
    ("'x'", "invalid character '\\'' looking for beginning of value"),
    ('"\n"', "invalid character '\\n' in string literal"),
    ('"\\x"', "invalid character 'x' in string escape code"),
    ('"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
    ("-x", "invalid character 'x' in numeric literal"),
    ("1.x", "invalid character 'x' after decimal point in numeric literal"),
    ("1e+x", "invalid character 'x' in exponent of numeric literal"),
    ("\x00", "invalid character '\\x00' looking for beginning of value"),
    ("é", "invalid character 'Ã' looking for beginning of value"),
    ("[" * 10_001, "invalid character '[' exceeded max depth"),
]


@pytest.mark.parametrize(("body", "error"), SYNTAX, ids=range(len(SYNTAX)))
def test_what_is_not_json(api: Api, body: str, error: str) -> None:
    """Each mistake is told in the words of encoding/json."""
    reply = api.post("/proxies", body)
    assert (reply.status, reply.error) == (400, f"bad request body: {error}")


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ('{"name":5}', "number", "name of type string"),
        ('{"name":[]}', "array", "name of type string"),
        ('{"name":{}}', "object", "name of type string"),
        ('{"name":true}', "bool", "name of type string"),
        ('{"listen":5,"name":6}', "number", "listen of type string"),
        ('{"enabled":"yes"}', "string", "enabled of type bool"),
        ('{"enabled":1}', "number", "enabled of type bool"),
    ],
)
def test_fields_of_the_wrong_type(api: Api, body: str, kind: str, field: str) -> None:
    """The first field that does not fit is named, with its type and the one it should have."""
    expected = f"bad request body: json: cannot unmarshal {kind} into Go struct field Proxy.{field}"
    reply = api.post("/proxies", body)
    assert (reply.status, reply.error) == (400, expected)


@pytest.mark.parametrize(("body", "kind"), [("[1]", "array"), ('"x"', "string"), ("5", "number"), ("true", "bool")])
def test_bodies_of_the_wrong_type(api: Api, body: str, kind: str) -> None:
    """A proxy is an object."""
    reply = api.post("/proxies", body)
    assert reply.error == f"bad request body: json: cannot unmarshal {kind} into Go value of type toxiproxy.Proxy"


def test_null_is_an_empty_object(api: Api) -> None:
    """A body of null leaves every default, and a name has none."""
    assert api.post("/proxies", "null").error == "missing required field: name"


def test_keys_in_any_case(api: Api) -> None:
    """Keys match whatever their case; of several the last one wins."""
    made = api.post("/proxies", '{"NAME":"a","uPsTrEaM":"x:1","Enabled":true,"enabled":false,"name":"b"}').json
    assert (made["name"], made["upstream"], made["enabled"]) == ("b", "x:1", False)


def test_keys_fold_letter_by_letter(api: Api) -> None:
    """The long s is an s to Go, and a ligature is not two letters."""
    assert api.post("/proxies", '{"name":"a","up\u017ftream":"x:1","enabled":false}').status == 201
    assert api.post("/proxies", '{"name":"b","up\ufb06ream":"x:1"}').error == "missing required field: upstream"


def test_null_keeps_the_default(api: Api) -> None:
    """A field that is null is a field that is not there."""
    made = api.post("/proxies", '{"name":"a","upstream":"x:1","listen":null,"enabled":null}').json
    assert made["enabled"] is True


def test_unknown_keys_and_trailing_bytes(api: Api) -> None:
    """What nobody knows is ignored, and so is what follows the first value."""
    body = '{"name":"a","upstream":"x:1","enabled":false,"other":[{"deep":[1.5e3,null]}]} and more'
    assert api.post("/proxies", body).status == 201


def test_text_that_is_no_text(api: Api) -> None:
    """Bytes that are not UTF-8, and lone surrogates, become the replacement character."""
    made = api.post("/proxies", b'{"name":"a\xff\\ud800b\\ud83d\\ude00","upstream":"x:1","enabled":false}').json
    assert made["name"] == "a\ufffd\ufffdb\U0001f600"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("100.0", "number 100.0"),
        ("1e2", "number 1e2"),
        ('"100"', "string"),
        ("true", "bool"),
        ("9223372036854775808", "number 9223372036854775808"),
    ],
)
def test_integers_are_written_as_integers(api: Api, value: str, kind: str) -> None:
    """An attribute of a toxic is a whole number, and written as one."""
    api.create()
    reply = api.post("/proxies/p/toxics", f'{{"type":"latency","attributes":{{"latency":{value}}}}}')
    place = "into Go struct field LatencyToxic.attributes.latency of type int64"
    assert (reply.status, reply.error) == (400, f"bad request body: json: cannot unmarshal {kind} {place}")
    assert api.get("/proxies/p/toxics").json == []
