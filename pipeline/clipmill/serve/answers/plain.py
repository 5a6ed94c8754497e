"""Values of columns as JSON has them."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """NaN and infinities become null, bytes base64, and what JSON does not know its text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return str(value)


def to_json(document: Any) -> bytes:
    """UTF-8, without numbers that JSON has not; a lone surrogate in a text is written as an escape."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
