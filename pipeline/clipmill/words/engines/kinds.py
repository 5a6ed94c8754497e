"""How each kind of model is asked, and which kinds write what: known without loading any."""

from __future__ import annotations

from clipmill.core.errors import UserError
from clipmill.words.asking import Prompts
from clipmill.words.styles import Style, prompt_of

COCA = "coca"
HTTP = "http"
VLLM = "vllm"
_CAPTIONS_ONLY: dict[Style, str] = {"short": "", "detailed": "", "alt": ""}
_INSTRUCTED = Prompts({style: prompt_of(style, instructed=True) for style in ("short", "detailed", "alt")})
_KNOWN = {
    COCA: Prompts(_CAPTIONS_ONLY, ""),
    "blip": Prompts(_CAPTIONS_ONLY, ""),
    "git": Prompts(_CAPTIONS_ONLY, ""),
    "blip-2": Prompts(_CAPTIONS_ONLY, "Question: {} Answer:"),
    "paligemma": Prompts({"short": "caption en", "detailed": "describe en", "alt": "caption en"}, "answer en {}"),
    "florence2": Prompts({"short": "<CAPTION>", "detailed": "<MORE_DETAILED_CAPTION>", "alt": "<CAPTION>"}, ""),
}
"""By type of model. Those that are not named here were trained to be instructed."""


def prompts_of(kind: str) -> Prompts:
    """How a model of this type is asked."""
    return _KNOWN.get(kind, _INSTRUCTED)


def refuse_unasked(kind: str, name: str) -> None:
    """Raises UserError for a model that is not asked by messages, which `--engine vllm` needs."""
    if kind in _KNOWN:
        raise UserError(
            f"--engine vllm asks by messages, and --model {name} is of the type {kind}, which takes none: leave --engine out"
        )


def refuse_questions(kind: str, name: str) -> None:
    """Raises UserError for a model that writes captions only."""
    if not prompts_of(kind).question:
        raise UserError(
            f"--model {name} is of the type {kind}, which writes captions and answers no questions; name a model that is "
            "instructed (LLaVA, Qwen-VL, SmolVLM, IDEFICS), BLIP-2 or PaliGemma"
        )
