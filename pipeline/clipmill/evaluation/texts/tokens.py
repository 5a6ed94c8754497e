"""Texts as words, nearly as the Penn Treebank has them, in lower case and without punctuation.

Overlap with references is measured on such words (Chen et al. 2015 use Stanford's tokenizer, which needs Java): contractions
are two words, numbers, hyphenated words and abbreviations stay whole.
"""

import re

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"', "’", "‘", "“", "”"])
"""Words that are left out, as COCO's evaluation has them, which keeps brackets."""
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|prof|st|jr|sr|vs|etc|inc|ltd|co|corp|no|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec"
    r"|e\.g|i\.e|a\.m|p\.m"
)
_JOINED = {"cannot": ("can", "not"), "gonna": ("gon", "na"), "gotta": ("got", "ta"), "wanna": ("wan", "na")}
_JOINED |= {"lemme": ("lem", "me"), "gimme": ("gim", "me")}
_WORD = re.compile(
    rf"""
    (?:https?://|www\.)\S+                      # an address
  | \d+(?:[.,:/]\d+)*(?:st|nd|rd|th|s)?\b(?!-\w) # a number, a time, a fraction
  | (?:(?<!\w)(?:{_ABBREVIATIONS})\.)           # an abbreviation with its point
  | (?:[^\W\d_]\.){{2,}}                        # u.s.
  | [^\W_]+\.(?:com|net|org)\b                 # the name of a site
  | [^\W_]+(?:[-/_][^\W_]+)*(?:['’][^\W\d_]+)* # a word, with hyphens, with what an apostrophe joins
  | ['’](?:s|re|ve|ll|d|m)\b                    # a contraction that stands alone
  | \.\.\.|--|``|''
  | \S
    """,
    re.VERBOSE,
)
_CLITIC = re.compile(r"(?<=\w)(n['’]t|['’](?:s|re|ve|ll|d|m))$")


def tokens(text: str) -> tuple[str, ...]:
    """The words of a text."""
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        found += _parts(word)
    return tuple(_BRACKETS.get(word, word) for word in found if word not in PUNCTUATION)


def _parts(word: str) -> tuple[str, ...]:
    if word in _JOINED:
        return _JOINED[word]
    if match := _CLITIC.search(word):
        return word[: match.start()], match[1].replace("’", "'")
    return (word,)
