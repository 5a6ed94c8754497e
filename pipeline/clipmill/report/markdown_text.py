"""Text and tables of Markdown in which nothing but ourselves can make markup.

Captions, names and labels may hold anything. In a code span nothing is markup, no name is notified and no address becomes
a link; in a sentence every character that could be markup is escaped.
"""

import re
import unicodedata
from collections.abc import Sequence

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~#&$!])")
_MENTION = re.compile(r"(?<!\w)@(?=\w)")
_LINK = re.compile(r"(?i)(:)(?=//)|(?<=\bwww)(\.)")
_NO_SPACE = "\u200b"


def code(text: str, length: int = 160) -> str:
    """A code span of at most ``length`` characters of ``text``. A pipe, which would end a table's cell, becomes ¦."""
    plain = shorten(one_line(text).replace("|", "¦"), length)
    if not plain:
        return "` `"
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def prose(text: str) -> str:
    """A sentence in which nothing is markup, a mention or a link."""
    escaped = _MARKUP.sub(r"\\\1", one_line(text))
    escaped = _MENTION.sub(f"@{_NO_SPACE}", escaped)
    return _LINK.sub(lambda found: found.group() + _NO_SPACE, escaped)


def one_line(text: str) -> str:
    """Text without line breaks, control characters and marks that change the direction of writing."""
    shown = (" " if unicodedata.category(letter)[0] in "CZ" and letter != " " else letter for letter in text)
    return " ".join("".join(shown).split())


def shorten(text: str, length: int) -> str:
    """At most ``length`` characters of a text."""
    return text if len(text) <= length else text[: length - 1] + "…"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, the first column to the left and all others to the right; cells are Markdown already."""
    return [
        f"| {' | '.join(header)} |",
        f"|:---|{'---:|' * (len(header) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
