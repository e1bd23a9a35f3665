"""What the API answers when it cannot do as asked."""

from __future__ import annotations

from http import HTTPStatus

PROXIES_MAX = 4096
"""Each takes two descriptors and a port, and there are only some ten thousand free ones on an address."""

TOXICS_MAX = 64
"""Toxics of one proxy. Every chunk passes them one inside the other, and Python's stack has an end."""


class ApiError(Exception):
    """An answer that says no: a status code and the text of its `error`."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        """Answer `status` with `text`."""
        super().__init__(text)
        self.status = status
        self.text = text


def bad_body(text: str) -> ApiError:
    """Return the answer to a body that cannot be read or means nothing."""
    return ApiError(HTTPStatus.BAD_REQUEST, f"bad request body: {text}")


def missing(field: str) -> ApiError:
    """Return the answer to a body that lacks what has no default."""
    return ApiError(HTTPStatus.BAD_REQUEST, f"missing required field: {field}")


def refused(text: str) -> ApiError:
    """Return the answer to a wish that the machine does not grant: a port taken, a name unknown."""
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, text)


PROXY_NOT_FOUND = (HTTPStatus.NOT_FOUND, "proxy not found")
PROXY_EXISTS = (HTTPStatus.CONFLICT, "proxy already exists")
TOO_MANY_PROXIES = (HTTPStatus.BAD_REQUEST, f"too many proxies: there can be {PROXIES_MAX}")
TOO_MANY_TOXICS = (HTTPStatus.BAD_REQUEST, f"too many toxics: a proxy can have {TOXICS_MAX}")
TOXIC_NOT_FOUND = (HTTPStatus.NOT_FOUND, "toxic not found")
TOXIC_EXISTS = (HTTPStatus.CONFLICT, "toxic already exists")
INVALID_TYPE = (HTTPStatus.BAD_REQUEST, "invalid toxic type")
INVALID_STREAM = (HTTPStatus.BAD_REQUEST, "stream was invalid, can be either upstream or downstream")
