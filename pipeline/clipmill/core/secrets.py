"""Strings made fit to be shown, logged and published: without credentials, in addresses or of the environment."""

import os
import re

_HIDDEN = "…"
_LEAST_LETTERS = 8
"""Shorter values of a variable are no secrets, and stand in too many words."""
_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
_BEFORE_AT = re.compile(r"\b([A-Za-z][\w+.-]*:/{1,3})(?![^/\s@:]*:\d+/)(?:[^/\s@'\"\\:]*:[^\s@'\"\\]*|[^/\s@'\"\\:]+)@")
"""``s3://KEY:SECRET@bucket``, and what remains of it when it was taken for a path; a secret may hold slashes."""
_QUERY = re.compile(r"\b([A-Za-z][\w+.-]*:/{1,3}[^\s?'\"\\]+\?)[^\s'\"\\]+")
_PARAMETER = re.compile(
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|GoogleAccessId|X-Goog-Signature|sig|"
    r"access_token|(?:aws_)?secret(?:_access)?_key|token|password)=[^\s&'\"\\]+"
)


def clean(text: str) -> str:
    """The text with … in the place of credentials: what stands in an address before an @ or after a question mark, values
    of parameters that sign a request, and secrets that the environment holds. JSON stays JSON."""
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= _LEAST_LETTERS:
            text = text.replace(value, _HIDDEN)
    if ":/" in text:
        text = _QUERY.sub(rf"\1{_HIDDEN}", _BEFORE_AT.sub(rf"\1{_HIDDEN}@", text))
    return _PARAMETER.sub(rf"\1={_HIDDEN}", text) if "=" in text else text
