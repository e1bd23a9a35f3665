"""What each endpoint does. Bodies are read before anything is looked up, unless Toxiproxy looks up first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from chaos.faults.network.api import bodies, metrics
from chaos.faults.network.api.encoding import encode
from chaos.faults.network.api.failure import ApiError
from chaos.faults.network.api.proxies import ManagedProxy, Proxies, document
from chaos.faults.network.api.toxics import read_spec

VERSION = "2.12.0"
"""The version of Toxiproxy whose API this is."""

JSON = "application/json"

_SHOWN_AT_ONCE = 16


@dataclass(frozen=True)
class Answer:
    """What goes back to the client."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] | None = None


class Handlers:
    """The endpoints, over the proxies of this process."""

    def __init__(self, proxies: Proxies, *, strict: bool, runtime_metrics: bool = False) -> None:
        """With `strict` proxies are shown with the empty `Logger` that Toxiproxy shows.

        With `runtime_metrics` the metrics tell of this process too.
        """
        self._proxies = proxies
        self._strict = strict
        self._runtime_metrics = runtime_metrics

    async def version(self, _: bytes) -> Answer:
        """Tell the version of the API."""
        text = f'{{"version": "{VERSION}"}}\n'
        return Answer(HTTPStatus.OK, text.encode(), "application/json;charset=utf-8")

    async def metrics(self, _: bytes) -> Answer:
        """Tell the counters as they are now."""
        return Answer(
            HTTPStatus.OK, metrics.exposition(self._proxies, runtime=self._runtime_metrics), metrics.CONTENT_TYPE
        )

    async def index(self, _: bytes) -> Answer:
        """Describe all proxies, by name."""
        ordered = sorted(self._proxies, key=lambda proxy: proxy.proxy.name)
        members = [encode(proxy.proxy.name) + b":" + shown async for proxy, shown in self._shown(ordered)]
        return Answer(HTTPStatus.OK, b"{" + b",".join(members) + b"}", JSON)

    async def create(self, body: bytes) -> Answer:
        """Make a proxy."""
        spec = bodies.one_proxy(await bodies.value(body))
        return _json(HTTPStatus.CREATED, self._document(await self._proxies.create(spec)))

    async def populate(self, body: bytes) -> Answer:
        """Make proxies, or put them in the place of others that differ. Its errors are JSON, and say what was done."""
        done: list[ManagedProxy] = []
        failed: ApiError | None = None
        try:
            for spec in await bodies.proxies(body):
                done.append(await self._proxies.replace(spec))
                await asyncio.sleep(0)  # there may be thousands
        except ApiError as error:
            failed = error
        members = [shown async for _, shown in self._shown(done)]
        shown = b"[" + b",".join(members) + b"]" if members else b"null"
        if failed is None:
            return Answer(HTTPStatus.CREATED, b'{"proxies":' + shown + b"}", JSON)
        told = encode({"error": failed.text, "status": int(failed.status)})
        return Answer(failed.status, told[:-1] + b',"proxies":' + shown + b"}", JSON)

    async def reset(self, _: bytes) -> Answer:
        """Switch every proxy on and take every toxic out."""
        await self._proxies.reset()
        return Answer(HTTPStatus.NO_CONTENT)

    async def show(self, _: bytes, proxy: str) -> Answer:
        """Describe one proxy."""
        return _json(HTTPStatus.OK, self._document(self._proxies[proxy]))

    async def update(self, body: bytes, proxy: str) -> Answer:
        """Change a proxy; its name stays."""
        self._proxies[proxy]
        changes = bodies.changes(await bodies.value(body))
        return _json(HTTPStatus.OK, self._document(await self._proxies.update(proxy, *changes)))

    async def remove(self, _: bytes, proxy: str) -> Answer:
        """End a proxy."""
        await self._proxies.remove(proxy)
        return Answer(HTTPStatus.NO_CONTENT)

    async def toxics(self, _: bytes, proxy: str) -> Answer:
        """Describe the toxics of a proxy."""
        return _json(HTTPStatus.OK, self._proxies[proxy].toxics.documents())

    async def add_toxic(self, body: bytes, proxy: str) -> Answer:
        """Put a toxic to work. Toxiproxy answers 200, not 201."""
        self._proxies[proxy]
        value = await bodies.value(body)
        async with self._proxies.locked(proxy):
            toxics = self._proxies[proxy].toxics
            spec = read_spec(value, toxics.names())
            await toxics.add(spec)
            return _json(HTTPStatus.OK, toxics.document(spec.name))

    async def toxic(self, _: bytes, proxy: str, toxic: str) -> Answer:
        """Describe one toxic."""
        return _json(HTTPStatus.OK, self._proxies[proxy].toxics.document(toxic))

    async def update_toxic(self, body: bytes, proxy: str, toxic: str) -> Answer:
        """Change attributes and toxicity; type, stream and name stay."""
        self._proxies[proxy].toxics.document(toxic)
        value = await bodies.value(body)
        async with self._proxies.locked(proxy):
            toxics = self._proxies[proxy].toxics
            toxics.update(toxic, value)
            return _json(HTTPStatus.OK, toxics.document(toxic))

    async def remove_toxic(self, _: bytes, proxy: str, toxic: str) -> Answer:
        """Take a toxic out."""
        async with self._proxies.locked(proxy):
            await self._proxies[proxy].toxics.remove(toxic)
        return Answer(HTTPStatus.NO_CONTENT)

    async def _shown(self, proxies: Iterable[ManagedProxy]) -> AsyncIterator[tuple[ManagedProxy, bytes]]:
        """Describe one after the other, with a turn of the loop for everybody else after every few."""
        for number, proxy in enumerate(proxies, start=1):
            yield proxy, encode(self._document(proxy))
            if number % _SHOWN_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _document(self, proxy: ManagedProxy) -> dict[str, Any]:
        return document(proxy, strict=self._strict)


def _json(status: HTTPStatus, value: Any) -> Answer:
    return Answer(status, encode(value), JSON)
