"""Who is let in: with a token whoever has one; without, only who asks this machine by its own name."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from clipmill.core.errors import UserError
from clipmill.serve.problems import Problem
from clipmill.serve.web.tokens import TokenFile

_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
OPEN_PATHS = frozenset({"/", "/healthz", "/docs", "/openapi.json"})
"""Answered without a token: they tell nothing of an index, and the page asks for the token itself."""
OPEN_FOLDER = "/page/"


@dataclass(frozen=True)
class Access:
    """Without ``tokens`` the service is on this machine's own address alone. A page from elsewhere can make a browser here
    send requests, under a name that leads here too: so the Host and the Origin have to be this machine's own.

    Where replicas listen themselves, others reach them: without tokens ``peers`` are the addresses, beside those of loopback,
    from which they are asked by what stands before them. None: others cannot reach it."""

    tokens: TokenFile | None = None
    peers: frozenset[str] | None = None

    def check(self, path: str, headers: Iterable[tuple[bytes, bytes]], client: str | None = None) -> None:
        """Raises Problem where a request of the address ``client`` is not let in."""
        found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        if self.tokens is None:
            if self.peers is not None and client not in self.peers and not (client and is_loopback(client)):
                raise Problem(HTTPStatus.FORBIDDEN, "this service answers its own machine only; --token-file opens it")
            _check_host(found.get("host", ""), found.get("origin"))
        elif path not in OPEN_PATHS and not path.startswith(OPEN_FOLDER):
            scheme, _, token = found.get("authorization", "").partition(" ")
            given = token.strip() if scheme.lower() == "bearer" else None
            if self.tokens.name_of(given) is None:
                raise Problem(
                    HTTPStatus.UNAUTHORIZED,
                    "a token is needed that this service knows; send it in the header `Authorization: Bearer TOKEN`",
                )


def _check_host(host: str, origin: str | None) -> None:
    name = host[: host.rindex(":")] if ":" in host and not host.endswith("]") else host
    if name.lower() not in _NAMES:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            f"this service answers to localhost, not to {name[:100]!r}; open it under http://localhost, or start it with "
            "--token-file for others",
        )
    if origin is not None and origin.lower() != f"http://{host}".lower():
        raise Problem(HTTPStatus.FORBIDDEN, "another site's page may not ask this service; open its own page")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen at."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_open(host: str, tokens: TokenFile | None) -> None:
    """Raises UserError for an address that others reach, without tokens."""
    if tokens is None and not is_loopback(host):
        raise UserError(
            f"--host {host} can be reached from other machines, so a token is needed: write one to a file as NAME: TOKEN, "
            "and give it as --token-file FILE"
        )
