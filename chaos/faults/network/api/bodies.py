"""What bodies ask for: a proxy, changes of one, or many with their toxics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from chaos.faults.network.api import fields
from chaos.faults.network.api.failure import PROXIES_MAX, TOO_MANY_PROXIES, ApiError, bad_body, missing
from chaos.faults.network.api.fields import Misfit
from chaos.faults.network.api.proxies import ProxySpec
from chaos.faults.network.api.scanner import Value
from chaos.faults.network.api.toxics import ToxicSpec, read_spec

T = TypeVar("T")

_LONG_BYTES = 16 * 1024
_long_reader = ThreadPoolExecutor(1, "long bodies")
_PROXY_TYPE = "toxiproxy.Proxy"
_ELEMENT_TYPE = 'struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }'


async def value(body: bytes) -> Value:
    """Return the value a body begins with. Raises ApiError."""
    return await _read(fields.body, body)


async def proxies(body: bytes) -> list[ProxySpec]:
    """Return the proxies that a body asks for, see `many_proxies`. Raises ApiError."""
    return await _read(lambda text: many_proxies(fields.body(text)), body)


async def _read(read: Callable[[bytes], T], body: bytes) -> T:
    """Read long bodies in a thread, one after the other, so that the traffic of the proxies goes on meanwhile."""
    if len(body) < _LONG_BYTES:
        return read(body)
    return await asyncio.get_running_loop().run_in_executor(_long_reader, read, body)


def one_proxy(body: Value) -> ProxySpec:
    """Return the proxy that is asked for. Raises ApiError."""
    return _spec(_given(body), "")


def changes(body: Value) -> tuple[str | None, str | None, bool | None]:
    """Return the listen address, upstream and switch that are asked for, None for what stays. Raises ApiError."""
    given = _given(body)
    return given.get("listen"), given.get("upstream"), given.get("enabled")


def many_proxies(body: Value) -> list[ProxySpec]:
    """Return the proxies that are asked for, all of them checked, with their toxics. Raises ApiError."""
    if body is None:
        return []
    try:
        if not isinstance(body, list):
            fields.read_fields(body, {}, go_type=f"[]{_ELEMENT_TYPE}", struct_name="")
            raise Misfit("object", f"[]{_ELEMENT_TYPE}")
        if len(body) > PROXIES_MAX:
            raise ApiError(*TOO_MANY_PROXIES)
        found = [_proxy_fields(item, _ELEMENT_TYPE, "") for item in body]
    except Misfit as error:
        raise bad_body(str(error)) from error
    return [_spec(given, f" at proxy {number}") for number, given in enumerate(found, start=1)]


def _given(body: Value) -> dict[str, Any]:
    try:
        return _proxy_fields(body, _PROXY_TYPE, "Proxy")
    except Misfit as error:
        raise bad_body(str(error)) from error


def _proxy_fields(value: Value, go_type: str, struct_name: str) -> dict[str, Any]:
    """Return the fields of a proxy that are given. Raises Misfit."""
    embedded = "" if struct_name else "Proxy."
    readers = {"name": fields.text, "listen": fields.text, "upstream": fields.text}
    given = {"enabled": fields.flag, "toxics": fields.raw, **readers}
    try:
        return fields.read_fields(value, given, go_type=go_type, struct_name=struct_name)
    except Misfit as error:
        if error.go_type == "string":
            place = error.into.replace("struct field .", f"struct field .{embedded}")
            raise Misfit(error.value, error.go_type, place) from None
        raise


def _spec(given: Mapping[str, Any], place: str) -> ProxySpec:
    """Return what is asked for; `place` says where in the body. Raises ApiError."""
    for field in ("name", "upstream"):
        if not given.get(field):
            raise missing(f"{field}{place}")
    toxics = _toxics(given.get("toxics"), place) if place else []
    return ProxySpec(given["name"], given.get("listen", ""), given["upstream"], given.get("enabled", True), toxics)


def _toxics(value: Value, place: str) -> list[ToxicSpec]:
    """Return the toxics that come with a proxy, each of them tried. Raises ApiError."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise bad_body(f"toxics must be an array{place}")
    specs: dict[str, ToxicSpec] = {}
    for number, item in enumerate(value, start=1):
        try:
            spec = read_spec(item, specs.keys())
            spec.make(0)
        except ApiError as error:
            raise ApiError(error.status, f"{error.text} at toxic {number}{place}") from error
        specs[spec.name] = spec
    return list(specs.values())
