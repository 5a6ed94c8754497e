"""Texts as people also write them: in other case, and with typing errors."""

import hashlib
from collections.abc import Callable

import numpy as np

AS_WRITTEN = "as written"


def typos(text: str, per_letter: float, seed: int) -> str:
    """``text`` with one typing error for so many letters, at least one: two neighbouring, different letters of one word
    change places. Which follow from the text and ``seed`` alone; no letter moves twice. A text without two such letters
    stays."""
    letters = list(text)
    places = [
        at
        for at in range(len(letters) - 1)
        if letters[at].isalpha() and letters[at + 1].isalpha() and letters[at] != letters[at + 1]
    ]
    wanted = max(1, round(per_letter * sum(letter.isalpha() for letter in letters)))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    order = np.random.default_rng([seed, int.from_bytes(digest, "little")]).permutation(len(places))
    moved: set[int] = set()
    for at in (places[number] for number in order):
        if len(moved) == 2 * wanted:
            break
        if at not in moved and at + 1 not in moved:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
            moved |= {at, at + 1}
    return "".join(letters)


VARIATIONS: dict[str, Callable[[str, int], str]] = {
    AS_WRITTEN: lambda text, seed: text,
    "lower case": lambda text, seed: text.lower(),
    "upper case": lambda text, seed: text.upper(),
    "a typo in 20 letters": lambda text, seed: typos(text, 1 / 20, seed),
    "a typo in 10 letters": lambda text, seed: typos(text, 1 / 10, seed),
    "a typo in 5 letters": lambda text, seed: typos(text, 1 / 5, seed),
}
"""By name: a function of a text and a seed."""
