"""Prompts as conditions: a text, and perhaps a bound that the cosine of an image with it must keep."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError

_BOUNDED = re.compile(r"(?P<text>.*?)\s*(?P<sign>>=|<=|>|<)\s*(?P<bound>[+-]?(\d+\.?\d*|\.\d+))\s*", re.DOTALL)
_COMPARE = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less}


@dataclass(frozen=True)
class Prompt:
    """``sign`` and ``bound`` are None where images are only scored."""

    text: str
    sign: str | None = None
    bound: float | None = None

    @staticmethod
    def parse(given: str) -> "Prompt":
        """``a dog >= 0.25`` keeps what is at least so similar, ``a dog < 0.25`` what is less, ``a dog`` all.

        Raises UserError for a prompt without a text.
        """
        match = _BOUNDED.fullmatch(given)
        prompt = Prompt(match["text"].strip(), match["sign"], float(match["bound"])) if match else Prompt(given.strip())
        if not prompt.text:
            raise UserError(
                f"--prompt {given!r} has no text; write a text and, to keep rows by it, a bound: a dog >= 0.25"
            )
        if prompt.sign is None and re.search("[<>]=", prompt.text):
            raise UserError(f"--prompt {given!r}: what follows the sign is no number; write a bound such as >= 0.25")
        if prompt.bound is not None and not -1 <= prompt.bound <= 1:
            raise UserError(f"--prompt {given!r}: a cosine lies between -1 and 1")
        return prompt

    @property
    def reason(self) -> str:
        """Why a row that does not keep the bound is dropped."""
        return f"prompt {self.text!r} not {self.sign} {self.bound:g}"

    def keeps(self, cosines: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each cosine (rows,) keeps the bound."""
        if self.sign is None:
            return np.ones(len(cosines), bool)
        kept: NDArray[np.bool_] = _COMPARE[self.sign](cosines, np.float32(self.bound))
        return kept
