"""CLIP's byte-pair tokenizer without torch, which takes longer to import than a query takes to encode.

The vocabulary file is the one that open_clip brings. A word is split into bytes, and the pair of neighbours that comes first
in the file is merged until none of its pairs is there (Sennrich, Haddow, Birch 2016; Radford and others 2021).
"""

import gzip
import heapq
import html
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import ftfy
import numpy as np
import regex
from numpy.typing import NDArray

_ALL_MERGES = 49152 - 256 - 2
"""CLIP's vocabulary of 49,408: 256 bytes, as many at the end of a word, these merges, start and end of a text."""
_WORDS = regex.compile(
    r"""<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""", regex.IGNORECASE
)
_END_OF_WORD = "</w>"


def vocabulary_file() -> Path:
    """Where open_clip has its list of merges; found without importing it."""
    spec = find_spec("open_clip")
    assert spec is not None  # it is one of our requirements
    assert spec.origin is not None
    return Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"


class BytePairs:
    """Texts to token ids with the first ``merges`` merges of CLIP's vocabulary (None: all of them)."""

    def __init__(self, merges: int | None, context_length: int) -> None:
        with gzip.open(vocabulary_file(), "rt", encoding="utf-8") as stream:
            lines = stream.read().split("\n")[1 : 1 + (_ALL_MERGES if merges is None else merges)]
        pairs = [(first, second) for first, second in map(str.split, lines)]
        symbols = list(_symbols().values())
        words = [*symbols, *(symbol + _END_OF_WORD for symbol in symbols), *("".join(pair) for pair in pairs)]
        self._rank = {pair: rank for rank, pair in enumerate(pairs)}
        self._id = {word: number for number, word in enumerate(words)}
        self._start, self._end = len(words), len(words) + 1
        self._length = context_length

    def tokens(self, text: str) -> NDArray[np.int64]:
        """Ids of one text from its start to its end, int64 (at most the context length): longer texts are cut."""
        cleaned = " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
        found = [self._start]
        for word in _WORDS.findall(cleaned):
            if word == "<end_of_text>":
                break  # the tower reads at the first of these
            if word == "<start_of_text>":
                found.append(self._start)
                continue
            letters = "".join(_symbols()[byte] for byte in word.encode())
            found += [self._id[part] for part in self._parts(letters)]
            if len(found) >= self._length:
                break
        found = [*found, self._end][: self._length]
        return np.array([*found[:-1], self._end], np.int64)

    def _parts(self, word: str) -> list[str]:
        return merged([*word[:-1], word[-1] + _END_OF_WORD], self._rank)


def merged(parts: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The parts of a word after all merges: the pair of lowest rank is merged wherever it stands, from the left, and again.

    Time is n log n in the number of parts n, where going through the whole word for each merge takes their square.
    """
    parts, n = list(parts), len(parts)
    following, before = list(range(1, n + 1)), list(range(-1, n - 1))
    heap: list[tuple[int, int, str, str]] = []

    def offer(at: int) -> None:
        after = following[at] if at >= 0 else n
        if at >= 0 and after < n and (rank := ranks.get((parts[at], parts[after]))) is not None:
            heapq.heappush(heap, (rank, at, parts[at], parts[after]))

    for at in range(n - 1):
        offer(at)
    while heap:
        changed, rank = [], heap[0][0]
        while heap and heap[0][0] == rank:  # what these merges make waits, however low its rank
            _, at, first, second = heapq.heappop(heap)
            after = following[at]
            if after >= n or parts[at] != first or parts[after] != second:
                continue  # one of the two was merged with another
            parts[at], parts[after] = first + second, ""
            following[at] = following[after]
            if following[at] < n:
                before[following[at]] = at
            changed.append(at)
        for at in changed:
            offer(before[at])
            offer(at)
    return [part for part in parts if part]


@lru_cache(maxsize=1)
def _symbols() -> dict[int, str]:
    """A printable character for each byte, as in the vocabulary file: itself, or one from 256 on for those without."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable}, **{byte: chr(256 + at) for at, byte in enumerate(others)}}
