"""The toxics of one proxy, as the API knows them: named, of a type, on one stream."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from chaos._seeds import stream as random_stream
from chaos.faults.network.api import fields
from chaos.faults.network.api.encoding import shortest
from chaos.faults.network.api.failure import (
    INVALID_STREAM,
    INVALID_TYPE,
    TOO_MANY_TOXICS,
    TOXIC_EXISTS,
    TOXIC_NOT_FOUND,
    TOXICS_MAX,
    ApiError,
    bad_body,
)
from chaos.faults.network.api.fields import Misfit
from chaos.faults.network.api.scanner import Value
from chaos.faults.network.kinds import API_TOXICS
from chaos.faults.network.link import Side
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.toxic import ApiToxic

STREAMS: Mapping[str, Side] = {"upstream": "request", "downstream": "reply"}
"""Toxiproxy's names for the two directions, in the order in which it lists them."""

_SEED_BITS = 63
_GO_NAMES = {
    "latency": "LatencyToxic",
    "bandwidth": "BandwidthToxic",
    "slow_close": "SlowCloseToxic",
    "timeout": "TimeoutToxic",
    "reset_peer": "ResetToxic",
    "slicer": "SlicerToxic",
    "limit_data": "LimitDataToxic",
    "noop": "NoopToxic",
}
_UPDATE_TYPE = 'struct { Attributes interface {} "json:\\"attributes\\""; Toxicity float32 "json:\\"toxicity\\"" }'


@dataclass(frozen=True)
class ToxicSpec:
    """What a body asks for: a toxic that can be made, its attributes checked. `stream` is as the user wrote it."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: Mapping[str, int]

    @property
    def side(self) -> Side:
        """The direction it acts on."""
        return STREAMS[self.stream.lower()]

    def make(self, seed: int) -> ApiToxic:
        """Return a new toxic that draws from `seed`. Raises ApiError for values that are out of range."""
        try:
            return API_TOXICS[self.type].from_attributes(
                self.attributes, side=self.side, toxicity=self.toxicity, seed=seed
            )
        except ValueError as error:
            raise bad_body(str(error)) from error


def read_spec(body: Value, taken: Collection[str] = ()) -> ToxicSpec:
    """Return the toxic that a body describes; `taken` are the names in use. Raises ApiError."""
    readers = {
        "name": fields.text,
        "type": fields.text,
        "stream": fields.text,
        "toxicity": fields.single,
        "attributes": fields.raw,
    }
    try:
        given = fields.read_fields(body, readers, go_type="toxics.ToxicWrapper", struct_name="ToxicWrapper")
        attributes = given.get("attributes")
        fields.read_fields(attributes, {}, go_type="toxics.NoopToxic", struct_name="")
    except Misfit as error:
        raise bad_body(_placed(error, "struct field ToxicWrapper.attributes")) from error
    kind, stream = given.get("type", ""), given.get("stream", "downstream")
    if stream.lower() not in STREAMS:
        raise ApiError(*INVALID_STREAM)
    name = given.get("name") or f"{kind}_{stream}"
    if kind not in API_TOXICS:
        raise ApiError(*INVALID_TYPE)
    if name in taken:
        raise ApiError(*TOXIC_EXISTS)
    if len(taken) >= TOXICS_MAX:
        raise ApiError(*TOO_MANY_TOXICS)
    try:
        numbers = _attributes(kind, attributes)
    except Misfit as error:
        raise bad_body(str(error)) from error
    return ToxicSpec(name, kind, stream, given.get("toxicity", 1.0), numbers)


class Toxics:
    """The toxics of one proxy; its caller sees to it that one thing happens at a time."""

    def __init__(self, proxy: Proxy, seed: int) -> None:
        """Act on `proxy`. Each toxic draws from a stream of `seed`, named after the proxy and itself."""
        self._proxy = proxy
        self._seed = seed
        self._entries: dict[str, tuple[ToxicSpec, ApiToxic]] = {}

    def names(self) -> Collection[str]:
        """Return the names in use."""
        return self._entries.keys()

    def documents(self) -> list[dict[str, Any]]:
        """Describe all of them: upstream ones first, then downstream, each in order of creation."""
        return [
            self._document(spec.name)
            for side in STREAMS.values()
            for spec, _ in self._entries.values()
            if spec.side == side
        ]

    def document(self, name: str) -> dict[str, Any]:
        """Describe one. Raises ApiError."""
        self._entry(name)
        return self._document(name)

    async def add(self, spec: ToxicSpec) -> None:
        """Put a new toxic to work behind the others. Raises ApiError."""
        toxic = spec.make(random_stream(self._seed, self._proxy.name, spec.name).getrandbits(_SEED_BITS))
        await self._proxy.inject(_fault_id(spec.name), toxic)
        self._entries[spec.name] = (spec, toxic)

    def update(self, name: str, body: Value) -> None:
        """Change attributes and toxicity, everything or nothing. Raises ApiError."""
        spec, toxic = self._entry(name)
        go_name = _GO_NAMES[spec.type]
        try:
            given = fields.read_fields(
                body,
                {"attributes": fields.raw, "toxicity": fields.single},
                go_type=_UPDATE_TYPE,
                struct_name="",
            )
            attributes = given.get("attributes")
            fields.read_fields(attributes, {}, go_type=f"toxics.{go_name}", struct_name="")
        except Misfit as error:
            raise bad_body(_placed(error, "struct field .attributes")) from error
        try:
            toxic.update(_attributes(spec.type, attributes), given.get("toxicity"))
        except (Misfit, ValueError) as error:
            raise bad_body(str(error)) from error

    async def remove(self, name: str) -> None:
        """Take one out. Raises ApiError."""
        self._entry(name)
        await self._proxy.heal(_fault_id(name))
        del self._entries[name]

    async def clear(self) -> None:
        """Take all of them out."""
        for name in list(self._entries):
            await self.remove(name)

    def _entry(self, name: str) -> tuple[ToxicSpec, ApiToxic]:
        if name not in self._entries:
            raise ApiError(*TOXIC_NOT_FOUND)
        return self._entries[name]

    def _document(self, name: str) -> dict[str, Any]:
        spec, toxic = self._entries[name]
        return {
            "attributes": toxic.attributes(),
            "name": spec.name,
            "type": spec.type,
            "stream": spec.stream,
            "toxicity": shortest(toxic.toxicity),
        }


def _attributes(kind: str, value: Value) -> dict[str, int]:
    """Return the attributes that are given for a toxic of type `kind`. Raises Misfit."""
    integer = fields.integer("int" if kind == "slicer" else "int64")
    return fields.read_fields(
        value,
        dict.fromkeys(API_TOXICS[kind].api_attributes, integer),
        go_type=f"toxics.{_GO_NAMES[kind]}",
        struct_name=_GO_NAMES[kind],
        path="attributes.",
    )


def _placed(error: Misfit, place: str) -> str:
    """Return the text of a misfit; of attributes that are no object, with Go's name of their place."""
    is_attributes = not error.into and error.go_type.startswith("toxics.") and error.go_type != "toxics.ToxicWrapper"
    return str(Misfit(error.value, error.go_type, place) if is_attributes else error)


def _fault_id(name: str) -> str:
    """Return the id of a toxic among the faults of its proxy; those that the harness injects have others."""
    return f"toxic {name}"
