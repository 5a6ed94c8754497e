"""Which S3 is meant and how it is spoken to, from the environment. Credentials are not among it: boto3 finds those."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipmill.core.errors import UserError

WORKER_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_CA_BUNDLE",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "CLIPMILL_S3_ANONYMOUS",
    "CLIPMILL_S3_REQUESTER_PAYS",
    "CLIPMILL_S3_ADDRESSING_STYLE",
    "CLIPMILL_S3_TIMEOUT",
    "CLIPMILL_S3_PATIENCE",
)
"""All variables that say which S3 is meant: a run hands them to its workers. None may ever hold a secret."""

_STYLES = ("auto", "path", "virtual")
_TIMEOUT_SECONDS = 60.0
_PATIENCE_SECONDS = 120.0
_REACHED = "CLIPMILL_S3_REACHED"
"""Set by a process whose store has answered, for those that it starts: which endpoint that was."""


@dataclass(frozen=True)
class S3Settings:
    """How clients are made. ``timeout`` is in seconds without a byte, ``patience`` in seconds from a request's first failure
    to giving it up; ``variables`` are those that boto3 reads itself."""

    endpoint: str | None
    region: str | None
    anonymous: bool
    requester_pays: bool
    addressing_style: str | None
    timeout: float
    patience: float
    variables: tuple[tuple[str, str], ...]

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> "S3Settings":
        """Raises UserError, naming the variable, for a value that means nothing."""
        style = environment.get("CLIPMILL_S3_ADDRESSING_STYLE") or None
        if style is not None and style not in _STYLES:
            raise UserError(f"CLIPMILL_S3_ADDRESSING_STYLE is {style!r}; it must be one of {', '.join(_STYLES)}")
        return S3Settings(
            endpoint=_endpoint(environment),
            region=environment.get("AWS_REGION") or None,
            anonymous=_switch(environment, "CLIPMILL_S3_ANONYMOUS"),
            requester_pays=_switch(environment, "CLIPMILL_S3_REQUESTER_PAYS"),
            addressing_style=style,
            timeout=_positive(environment, "CLIPMILL_S3_TIMEOUT", _TIMEOUT_SECONDS),
            patience=_positive(environment, "CLIPMILL_S3_PATIENCE", _PATIENCE_SECONDS, or_zero=True),
            variables=tuple(worker_variables(environment).items()),
        )

    def checksums(self) -> dict[str, str]:
        """Checksums that are sent and checked: those a store must have, where it may be older than AWS's newer ones."""
        wanted = "when_required" if self.endpoint else "when_supported"
        set_already = dict(self.variables)
        return {
            "request_checksum_calculation": set_already.get("AWS_REQUEST_CHECKSUM_CALCULATION", wanted).lower(),
            "response_checksum_validation": set_already.get("AWS_RESPONSE_CHECKSUM_VALIDATION", wanted).lower(),
        }

    def style(self) -> dict[str, Any]:
        """The addressing style for botocore's ``s3`` settings: chosen by the user, else path style at an endpoint."""
        chosen = self.addressing_style or ("path" if self.endpoint else None)
        return {"addressing_style": chosen} if chosen else {}


def worker_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of this process that its workers need, and no secret. Raises UserError for one that would hold one."""
    _endpoint(environment)
    return {name: environment[name] for name in WORKER_VARIABLES if environment.get(name)}


def was_reached(endpoint: str | None) -> bool:
    """Whether the store has answered this process, or the one that started it."""
    return os.environ.get(_REACHED) == (endpoint or _REACHED)


def note_reached(endpoint: str | None) -> None:
    """The store has answered: processes started from now on are patient with it from their beginning."""
    os.environ[_REACHED] = endpoint or _REACHED


def reached_variables() -> dict[str, str]:
    """What says so to processes that do not inherit the environment."""
    return {_REACHED: os.environ[_REACHED]} if _REACHED in os.environ else {}


def _endpoint(environment: Mapping[str, str]) -> str | None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        url = environment.get(name)
        if not url:
            continue
        if "@" in url or "?" in url:
            raise UserError(f"{name} must hold a plain URL: give credentials in AWS_ACCESS_KEY_ID and its like")
        if not url.startswith(("http://", "https://")):
            raise UserError(f"{name} is {url!r}; it must begin with http:// or https://")
        return url
    return None


def _switch(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "").strip().lower()
    if value in ("", "0", "false", "no", "off"):
        return False
    if value in ("1", "true", "yes", "on"):
        return True
    raise UserError(f"{name} is {value!r}; set it to 1 or leave it unset")


def _positive(environment: Mapping[str, str], name: str, default: float, *, or_zero: bool = False) -> float:
    value = environment.get(name)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not (number > 0 or (or_zero and number == 0)):
        raise UserError(f"{name} is {value!r}; it must be a number {'of at least' if or_zero else 'above'} 0")
    return number
