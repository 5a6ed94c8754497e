"""Prompts for kinds of captions, and what is done to a text so that it fits its kind."""

import re
from typing import Literal

Style = Literal["short", "detailed", "alt"]
STYLES: tuple[Style, ...] = ("short", "detailed", "alt")

ALT_LENGTH = 125
"""Screen readers cut longer alternative texts."""

_PROMPTS: dict[Style, str] = {
    "short": "Describe this picture in one short sentence.",
    "detailed": "Describe this picture in detail.",
    "alt": "Write alternative text for this picture: one sentence that says what it shows.",
}
_OPENING = re.compile(
    r"^\s*(?:this|the)?\s*(?:is\s+)?(?:an?\s+|the\s+)?(?:image|picture|photo|photograph)\s+(?:shows|depicts|of|showing|depicting|contains)\s+",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def prompt_of(style: Style, *, instructed: bool) -> str:
    """What is asked for a style; nothing of a model that was not trained to be instructed."""
    return _PROMPTS[style] if instructed else ""


def styled(text: str, style: Style) -> str:
    """The text as its style wants it: white space plain, and of alternative text the first sentence, without "image of" before
    it, in at most `ALT_LENGTH` characters, cut at a word."""
    plain = " ".join(text.split())
    return alternative(plain) if style == "alt" else plain


def alternative(text: str) -> str:
    """Alternative text made of a caption."""
    first = _SENTENCE.split(text.strip(), maxsplit=1)[0]
    opened = _OPENING.sub("", first, count=1)
    opened = opened[:1].upper() + opened[1:] if opened != first else first
    if len(opened) <= ALT_LENGTH:
        return opened
    cut = opened[:ALT_LENGTH].rsplit(" ", 1)[0] if " " in opened[:ALT_LENGTH] else opened[:ALT_LENGTH]
    return cut.rstrip(" ,;:-–")
