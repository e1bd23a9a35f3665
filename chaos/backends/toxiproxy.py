"""The client of a real Toxiproxy (2.12): toxiproxy-python in threads, behind an interface without its holes.

Every change is read back from the server: what an object of this module says was so when it was returned.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

from chaos.backends.toxiproxy_library import Library, ToxiproxyError, quoted
from chaos.errors import EnvironmentUnavailable

__all__ = [
    "CALL_TIMEOUT_S",
    "VERSION_MIN",
    "Stream",
    "Toxic",
    "Toxiproxy",
    "ToxiproxyError",
    "ToxiproxyProxy",
    "Traffic",
]

CALL_TIMEOUT_S = 5.0
"""How long the server may take to answer; it answers in a millisecond unless a change waits for a connection."""

VERSION_MIN = (2, 5, 0)
"""The oldest server with all that is used here: reset_peer, metrics, `-version`."""

Stream = Literal["upstream", "downstream"]
"""Toxiproxy's names of the directions: to the server, and back from it."""

_ATTRIBUTE_MAX = 2**31 - 1
_SAMPLE = re.compile(r"^toxiproxy_proxy_(received|sent)_bytes_total\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_T = TypeVar("_T")


@dataclass(frozen=True)
class Toxic:
    """A toxic as the server describes it. Attributes are whole numbers, in the units of Toxiproxy's manual."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: Mapping[str, int]


@dataclass(frozen=True)
class ToxiproxyProxy:
    """A proxy as the server describes it: `listen` is HOST:PORT with the port really bound, while it is enabled."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[Toxic, ...]

    @property
    def port(self) -> int:
        """Port number of `listen`."""
        return int(self.listen.rpartition(":")[2])


@dataclass(frozen=True)
class Traffic:
    """Bytes that the ended connections of a proxy had, by stream: what came in from one side, what went out."""

    received: Mapping[str, int] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)


class Toxiproxy:
    """One Toxiproxy server; several clients in one process may mean several servers.

    Every call raises ToxiproxyError (a HarnessError) when the server says no, does not answer in time, or is in
    another state afterwards than it was asked for. Cancellation: the request goes on in its thread and may take
    effect all the same.
    """

    def __init__(self, url: str, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Raises EnvironmentUnavailable when `url` is not http://HOST:PORT; nothing is sent yet."""
        self._library = Library(url, timeout_s)

    @property
    def url(self) -> str:
        """Where the API is: http://HOST:PORT."""
        return self._library.url

    async def version(self) -> str:
        """Return the server's version; "git" when it was built without one."""
        return await self._call(self._version)

    async def demand(self) -> str:
        """Return the version of a server that can be used; raises EnvironmentUnavailable for any other."""
        try:
            version = await self.version()
        except ToxiproxyError as error:
            raise EnvironmentUnavailable(
                str(error), "start a toxiproxy-server there, or name another address"
            ) from error
        demand_version(version, self.url)
        return version

    async def proxies(self) -> dict[str, ToxiproxyProxy]:
        """Return all proxies by name."""
        return await self._call(lambda: {name: _proxy(one) for name, one in self._library.get("/proxies").items()})

    async def proxy(self, name: str) -> ToxiproxyProxy:
        """Return one proxy; an unknown name is a ToxiproxyError with status 404."""
        return await self._call(partial(self._read, name))

    async def create(self, name: str, listen: str, upstream: str, *, enabled: bool = True) -> ToxiproxyProxy:
        """Make a proxy. `listen` is HOST:PORT, port 0 for any; a name or port in use is a ToxiproxyError."""
        return await self._call(partial(self._create, name, listen, upstream, enabled))

    async def delete(self, name: str) -> None:
        """Remove a proxy and close its connections."""
        await self._call(partial(self._delete, name))

    async def enable(self, name: str) -> ToxiproxyProxy:
        """Listen again; its toxics act on."""
        return await self._call(partial(self._switch, name, True))

    async def disable(self, name: str) -> ToxiproxyProxy:
        """Stop listening and close every connection; its toxics stay."""
        return await self._call(partial(self._switch, name, False))

    async def add_toxic(
        self, proxy: str, name: str, kind: str, stream: Stream, toxicity: float, attributes: Mapping[str, float]
    ) -> Toxic:
        """Add a toxic of type `kind` and return it as the server has it.

        Raises ValueError for values that the server would misread or that would end it: attributes that are not
        whole numbers from 0 to 2**31 - 1, a toxicity outside 0..1, a slicer without a size.
        """
        values = _whole(attributes)
        _demand_harmless(kind, values, toxicity)
        return await self._call(partial(self._add_toxic, proxy, name, kind, stream, toxicity, values))

    async def update_toxic(
        self, proxy: str, name: str, attributes: Mapping[str, float] | None = None, toxicity: float | None = None
    ) -> Toxic:
        """Change a toxic in place and return it. None leaves a value; so do attributes that are not named."""
        return await self._call(partial(self._update_toxic, proxy, name, _whole(attributes or {}), toxicity))

    async def remove_toxic(self, proxy: str, name: str) -> None:
        """Remove a toxic; what it held back flows on, or its connections are closed, as its type has it."""
        await self._call(partial(self._remove_toxic, proxy, name))

    async def reset(self) -> None:
        """Enable every proxy of the server and remove every toxic, also those of others."""
        await self._call(self._reset)

    async def metrics(self) -> dict[str, Traffic]:
        """Return the traffic of ended connections, by proxy name; a proxy without any is absent.

        Raises ToxiproxyError with status 404 when the server was started without -proxy-metrics.
        """
        return await self._call(lambda: _traffic(self._library.get_text("/metrics")))

    async def _call(self, work: Callable[[], _T]) -> _T:
        return await asyncio.to_thread(self._guarded, work)

    def _guarded(self, work: Callable[[], _T]) -> _T:
        """Take an answer of the wrong shape for what it is: another server on that port."""
        try:
            return work()
        except (KeyError, AttributeError, TypeError, IndexError) as error:
            raise ToxiproxyError(self.url, f"its answer is not that of a Toxiproxy: {error!r}") from error

    def _version(self) -> str:
        text = self._library.get_text("/version").strip()
        return str(self._library.get("/version")["version"]) if text.startswith("{") else text

    def _read(self, name: str) -> ToxiproxyProxy:
        return _proxy(self._library.get(f"/proxies/{quoted(name)}"))

    def _create(self, name: str, listen: str, upstream: str, enabled: bool) -> ToxiproxyProxy:
        quoted(name)  # one that could be made and never be removed
        # The library lists first and calls a taken name by its own words; the server's answer is the surer one.
        self._library.post("/proxies", {"name": name, "listen": listen, "upstream": upstream, "enabled": enabled})
        made = self._read(name)
        self._demand(made.enabled == enabled and made.upstream == upstream, f"proxy {name} was made as {made}")
        return made

    def _delete(self, name: str) -> None:
        self._library.change(self._library.proxy(name).destroy)
        self._demand(name not in self._library.get("/proxies"), f"proxy {name} is still there after its removal")

    def _switch(self, name: str, enabled: bool) -> ToxiproxyProxy:
        proxy = self._library.proxy(name)
        self._library.change(proxy.enable if enabled else proxy.disable)
        now = self._read(name)
        self._demand(now.enabled == enabled, f"proxy {name} has enabled={now.enabled} after it was set to {enabled}")
        return now

    def _add_toxic(
        self, proxy: str, name: str, kind: str, stream: str, toxicity: float, attributes: Mapping[str, int]
    ) -> Toxic:
        quoted(name)
        self._library.change(
            self._library.proxy(proxy).add_toxic,
            name=name,
            type=kind,
            stream=stream,
            toxicity=toxicity,
            attributes=attributes,
        )
        made = self._read_toxic(proxy, name)
        is_so = made.type == kind and made.stream == stream and made.toxicity == toxicity
        self._demand(is_so and _holds(made, attributes), f"toxic {name} was made as {made}")
        return made

    def _update_toxic(self, proxy: str, name: str, attributes: Mapping[str, int], toxicity: float | None) -> Toxic:
        before = self._read_toxic(proxy, name)
        wanted = before.toxicity if toxicity is None else toxicity
        _demand_harmless(before.type, {**before.attributes, **attributes}, wanted)
        body = {"attributes": dict(attributes), "toxicity": wanted}
        self._library.post(f"/proxies/{quoted(proxy)}/toxics/{quoted(name)}", body)
        now = self._read_toxic(proxy, name)
        self._demand(now.toxicity == wanted and _holds(now, attributes), f"toxic {name} was changed to {now}")
        return now

    def _remove_toxic(self, proxy: str, name: str) -> None:
        self._library.change(self._library.proxy(proxy).destroy_toxic, quoted(name))
        left = [toxic["name"] for toxic in self._library.get(f"/proxies/{quoted(proxy)}/toxics")]
        self._demand(name not in left, f"toxic {name} is still there after its removal")

    def _reset(self) -> None:
        self._library.post("/reset")
        for name, one in self._library.get("/proxies").items():
            proxy = _proxy(one)
            self._demand(proxy.enabled and not proxy.toxics, f"proxy {name} is {proxy} after the reset")

    def _read_toxic(self, proxy: str, name: str) -> Toxic:
        return _toxic(self._library.get(f"/proxies/{quoted(proxy)}/toxics/{quoted(name)}"))

    def _demand(self, condition: bool, text: str) -> None:
        if not condition:
            raise ToxiproxyError(self.url, text)


def demand_version(version: str, where: str) -> None:
    """Raise EnvironmentUnavailable for a version that is known to be too old; "git" cannot be known."""
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None and version != "git":
        raise EnvironmentUnavailable(
            f"{where} calls itself version={version!r}, which is no Toxiproxy", "use a toxiproxy-server 2.12"
        )
    if numbers is not None and tuple(map(int, numbers.groups())) < VERSION_MIN:
        least = ".".join(map(str, VERSION_MIN))
        raise EnvironmentUnavailable(
            f"{where} is Toxiproxy {version}, which must be >= {least}", "use a toxiproxy-server 2.12"
        )


def _proxy(answer: Mapping[str, Any]) -> ToxiproxyProxy:
    toxics = tuple(_toxic(toxic) for toxic in answer.get("toxics") or ())
    return ToxiproxyProxy(answer["name"], answer["listen"], answer["upstream"], bool(answer["enabled"]), toxics)


def _toxic(answer: Mapping[str, Any]) -> Toxic:
    attributes = {key: int(value) for key, value in (answer["attributes"] or {}).items()}
    return Toxic(answer["name"], answer["type"], answer["stream"], float(answer["toxicity"]), attributes)


def _whole(attributes: Mapping[str, float]) -> dict[str, int]:
    """Return the attributes as the integers that the server demands; 10.0 would be refused by it as it is."""
    for key, value in attributes.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise ValueError(f"{key}={value!r} must be a whole number")
        if not 0 <= value <= _ATTRIBUTE_MAX:
            raise ValueError(f"{key}={value!r} must be from 0 to {_ATTRIBUTE_MAX}")
    return {key: int(value) for key, value in attributes.items()}


def _demand_harmless(kind: str, attributes: Mapping[str, int], toxicity: float) -> None:
    """Raise ValueError for what Toxiproxy takes without a word and goes wrong with, to the end of its process."""
    if not 0.0 <= toxicity <= 1.0:
        raise ValueError(f"toxicity={toxicity!r} must be from 0 to 1")
    if kind == "slicer":
        average, variation = attributes.get("average_size", 0), attributes.get("size_variation", 0)
        if average < 1 or variation >= average:
            raise ValueError(
                f"average_size={average} and size_variation={variation} end the server; "
                "average_size must be >= 1 and size_variation below it"
            )


def _holds(toxic: Toxic, attributes: Mapping[str, int]) -> bool:
    return all(toxic.attributes.get(key) == value for key, value in attributes.items())


def _traffic(text: str) -> dict[str, Traffic]:
    """Read the counters that concern proxies out of a Prometheus page."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        labels = {key: value.replace('\\"', '"').replace("\\\\", "\\") for key, value in _LABEL.findall(sample[2])}
        of_proxy = found.setdefault(labels["proxy"], {"received": {}, "sent": {}})[sample[1]]
        of_proxy[labels["direction"]] = of_proxy.get(labels["direction"], 0) + int(float(sample[3]))
    return {name: Traffic(counters["received"], counters["sent"]) for name, counters in found.items()}
