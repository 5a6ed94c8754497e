"""Tokens that let programs and people in: named, in a file that may be changed while the service runs."""

import hashlib
import hmac
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from clipmill.core.errors import UserError

_LEAST_LETTERS = 16
_LOG = logging.getLogger(__name__)
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Token:
    """``digest`` is the sha256 of the token, so that all are compared at one length."""

    name: str
    digest: bytes


class TokenFile:
    """The tokens of a file: a line each, ``NAME: TOKEN``; empty lines and those that begin with # count for nothing.

    The file is read again when it has changed. One that cannot be read then lets nobody in.
    """

    def __init__(self, path: Path) -> None:
        """Raises UserError for a file without tokens."""
        self._path = path
        self._stamp = self._look()
        self._tokens = read_tokens(path)

    def name_of(self, given: str | None) -> str | None:
        """The name of the token that was given; None for any other. Each token is compared, whichever it is."""
        digest = _digest(given or "")
        found: str | None = None
        for token in self._current():
            if hmac.compare_digest(token.digest, digest):
                found = token.name
        return found if given else None

    def _current(self) -> tuple[Token, ...]:
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._tokens = read_tokens(self._path)
            except UserError as error:
                self._tokens = ()
                _LOG.warning("%s; nobody is let in until it is mended", error)
        return self._tokens

    def _look(self) -> _Stamp | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Raises UserError where the file cannot be read, holds no token, one that is too short, or two of a name."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"--token-file {path} cannot be read: {reason}") from None
    tokens: dict[str, Token] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, token = (part.strip() for part in line.partition(":"))
        if not colon or not name or len(token) < _LEAST_LETTERS or not token.isascii() or " " in token:
            raise UserError(
                f"--token-file {path}, line {number}: write NAME: TOKEN, with a token of {_LEAST_LETTERS} or more letters "
                "and digits; `openssl rand -hex 32` makes one"
            )
        if name in tokens:
            raise UserError(f"--token-file {path}, line {number}: there are two tokens called {name!r}; rename one")
        tokens[name] = Token(name, _digest(token))
    if not tokens:
        raise UserError(f"--token-file {path} holds no token; write NAME: TOKEN, one a line")
    return tuple(tokens.values())


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
