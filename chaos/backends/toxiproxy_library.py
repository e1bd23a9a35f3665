"""toxiproxy-python, made fit for use: one private copy of it per server, and requests that end.

The library keeps the server's address in a class that all its clients share, sends requests without a timeout and
through whatever HTTP_PROXY says, and takes a 5xx answer for a success. Nothing of it is patched where others may
use it: each `Library` loads the package's files once more under a name of its own, and puts its own transport and
its own look at answers into that copy.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import sys
import threading
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final
from urllib.parse import quote, urlsplit

from chaos.errors import EnvironmentUnavailable, HarnessError

DEFAULT_PORT = 8474
_TEXT_CHARS_MAX = 300
_copies = itertools.count()
_loading = threading.Lock()


class ToxiproxyError(HarnessError):
    """A Toxiproxy said no or did not answer. `status` is the HTTP status, None without an answer; `text` its words."""

    def __init__(self, url: str, text: str, status: int | None = None) -> None:
        """Say which server it was."""
        self.url = url
        self.text = text
        self.status = status
        super().__init__(f"toxiproxy at {url}: {text}" + (f" (HTTP status {status})" if status is not None else ""))


def address_of(url: str) -> tuple[str, int]:
    """Return host and port of `http://HOST[:PORT]` or `HOST[:PORT]`; IPv6 hosts stay in brackets.

    Raises EnvironmentUnavailable for anything else: the library speaks plain HTTP to the root of a server only.
    """
    whole = url if "//" in url else f"//{url}"
    try:
        parts = urlsplit(whole, scheme="http")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme != "http" or parts.path.strip("/") or parts.query or parts.username:
        raise EnvironmentUnavailable(
            f"url={url!r} is not the address of a Toxiproxy",
            f"write it as http://HOST:PORT, PORT usually {DEFAULT_PORT}",
        )
    return (f"[{host}]" if ":" in host else host), port or DEFAULT_PORT


def quoted(name: str) -> str:
    """Return a name as it stands in a path. Raises ValueError for one that no path can hold."""
    if name in ("", ".", "..") or "/" in name:
        raise ValueError(f"name={name!r} cannot be addressed in Toxiproxy's API; use one without '/' that is not empty")
    return quote(name, safe="")


class Library:
    """toxiproxy-python's calls to one server. Blocking; may be used by several threads at once.

    Every call returns the parsed answer, None for an empty one, and raises ToxiproxyError for whatever is not a
    success: no answer in time, any status of 300 and more, an answer that is not JSON.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        """`timeout_s` bounds the connect and each wait for the answer."""
        host, port = address_of(url)
        self.url: Final = f"http://{host}:{port}"
        copy = _private_copy()
        consumer = copy.api.APIConsumer
        consumer.host, consumer.port = host, port
        copy.api.requests = _Transport(self.url, timeout_s)
        copy.api.validate_response = self._demand_success
        self._consumer = consumer
        self._proxy_class = copy.Proxy

    def get(self, path: str) -> Any:
        """Read; `path` begins with a slash, its names quoted."""
        return self._parsed(self._consumer.get(path))

    def get_text(self, path: str) -> str:
        """Read what is not JSON."""
        return str(self._consumer.get(path).text)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Create or change; the API knows POST for both."""
        return self._parsed(self._consumer.post(path, json=body))

    def delete(self, path: str) -> None:
        """Remove."""
        self._consumer.delete(path)

    def proxy(self, name: str) -> Any:
        """Return the library's object for a proxy, its name quoted because the library puts it into paths as it is."""
        return self._proxy_class(name=quoted(name), upstream="", listen="", enabled=True)

    def change(self, method: Any, *arguments: Any, **named: Any) -> None:
        """Call a method of the library that parses the answer by itself and returns nothing of use."""
        try:
            method(*arguments, **named)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ToxiproxyError(self.url, f"its answer is not that of a Toxiproxy: {error!r}") from error

    def _parsed(self, response: Any) -> Any:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise ToxiproxyError(self.url, f"its answer is not JSON: {_plain(response.text)}") from error

    def _demand_success(self, response: Any) -> Any:
        """Stand in for the library's check, which knows 400, 404 and 409 only, and one exception for each."""
        if response.status_code < 300:  # redirects are not followed, so they are no success
            return response
        raise ToxiproxyError(self.url, _error_text(response.text), response.status_code)


class _Transport:
    """What the library's private copy has in place of the module `requests`."""

    def __init__(self, url: str, timeout_s: float) -> None:
        import requests  # it takes longer to import than most commands run

        self._requests = requests
        self._url = url
        self._timeout_s = timeout_s

    def get(self, **call: Any) -> Any:
        """Send a GET."""
        return self._send("GET", **call)

    def post(self, **call: Any) -> Any:
        """Send a POST."""
        return self._send("POST", **call)

    def delete(self, **call: Any) -> Any:
        """Send a DELETE."""
        return self._send("DELETE", **call)

    def _send(self, method: str, **call: Any) -> Any:
        with self._requests.Session() as session:  # a session is not made for several threads
            session.trust_env = False  # no HTTP_PROXY and no .netrc between us and a server on this machine
            try:
                return session.request(method, timeout=self._timeout_s, allow_redirects=False, **call)
            except self._requests.Timeout as error:
                text = f"no answer to {method} {_path(call)} within {self._timeout_s:g}s"
                raise ToxiproxyError(self._url, text) from error
            except self._requests.RequestException as error:
                raise ToxiproxyError(self._url, f"cannot be reached: {_cause(error)}") from error


def _private_copy() -> ModuleType:
    """Load the package's files under a name that nothing else knows; its classes are then nobody else's."""
    found = importlib.util.find_spec("toxiproxy")
    if found is None or found.origin is None:
        raise EnvironmentUnavailable("the package toxiproxy-python is not installed", "pip install toxiproxy-python")
    with _loading:
        name = f"_chaos_toxiproxy_{next(_copies)}"
        spec = importlib.util.spec_from_file_location(
            name, found.origin, submodule_search_locations=found.submodule_search_locations
        )
        assert spec is not None
        assert spec.loader is not None
        copy = importlib.util.module_from_spec(spec)
        sys.modules[name] = copy
        try:
            spec.loader.exec_module(copy)
        finally:  # the modules hold each other; nobody is to find them by name
            for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
                del sys.modules[loaded]
    return copy


def _error_text(body: str) -> str:
    """Return the words of an error answer: those of its JSON, else its text without markup."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return _plain(body)


def _plain(body: str) -> str:
    text = " ".join(re.sub(r"<[^>]*>", " ", body).split())
    return text[:_TEXT_CHARS_MAX] or "(an empty answer)"


def _path(call: Mapping[str, Any]) -> str:
    return urlsplit(str(call.get("url", ""))).path


def _cause(error: BaseException) -> str:
    """Return the innermost reason: requests and urllib3 wrap an OSError several times."""
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, OSError) and reason.strerror:
            return reason.strerror
        inner = getattr(reason, "reason", None)
        following = inner if isinstance(inner, BaseException) else reason.__context__
        if following is None:
            return str(reason)
        reason = following
    return str(error)
