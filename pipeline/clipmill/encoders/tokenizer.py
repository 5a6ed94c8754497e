"""Captions to token ids: open_clip's tokenizer for the model, and the cut vocabulary of small models."""

import gzip
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import open_clip
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, default_bpe

from clipmill.core.errors import UserError
from clipmill.encoders.byte_pairs import merged
from clipmill.encoders.source import ModelSource
from clipmill.encoders.tokens import Tokenizer

_BYTE_PAIRS = "clip-bpe"
_LONG_WORD = 200
"""Letters of a word from which on open_clip's way takes longer; it also keeps every word that it has seen."""


def cut_tokenizer(merges: int, context_length: int) -> Tokenizer:
    """CLIP's byte-pair tokenizer with only the first ``merges`` merges of its vocabulary.

    Its vocabulary has 512 bytes and byte ends, the merges, and two special tokens: ``vocab_size = merges + 514``.
    """
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as stream:
        lines = [next(stream) for _ in range(merges + 1)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "merges.txt.gz"
        path.write_bytes(gzip.compress("".join(lines).rstrip("\n").encode()))
        return _quick(SimpleTokenizer(bpe_path=str(path), context_length=context_length))


class QuickTokenizer(SimpleTokenizer):  # type: ignore[misc]  # open_clip has no types
    """open_clip's own tokenizer, which long words take no more than linear time, nearly."""

    def bpe(self, word: str) -> str:
        """The parts of a word, with blanks between them."""
        if len(word) < _LONG_WORD:
            return str(super().bpe(word))
        return " ".join(merged([*word[:-1], word[-1] + "</w>"], self.bpe_ranks))


def _quick(tokenizer: Any) -> Tokenizer:
    """The same tokenizer, quick where it is open_clip's own."""
    if isinstance(tokenizer, SimpleTokenizer):
        tokenizer.__class__ = QuickTokenizer
    result: Tokenizer = tokenizer
    return result


def load_tokenizer(source: ModelSource) -> Tokenizer:
    """The tokenizer of a model. Raises UserError when it would have to be downloaded and cannot be."""
    text = source.config["text_cfg"]
    if source.merges is not None:
        return cut_tokenizer(source.merges, text["context_length"])
    try:
        if source.folder is None:
            return _quick(open_clip.get_tokenizer(source.name))
        if not text.get("hf_tokenizer_name") or (source.folder / "tokenizer.json").is_file():
            return _quick(open_clip.get_tokenizer(f"local-dir:{source.folder}"))
        result: Tokenizer = HFTokenizer(
            text["hf_tokenizer_name"],
            context_length=text["context_length"],
            tokenizer_mode=text.get("tokenizer_mode"),
            **(text.get("tokenizer_kwargs") or {}),
        )
        return result
    except ImportError as error:
        raise UserError(
            f"--model {source.name}: its tokenizer needs a package that is not installed: {error}"
        ) from None
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--model {source.name}: its tokenizer {text.get('hf_tokenizer_name') or ''} could not be loaded ({reason}); "
            "it is downloaded from the Hugging Face hub on first use: run once with network access, or set HF_HOME to a copy"
        ) from None


def describe_tokenizer(source: ModelSource) -> tuple[str, str]:
    """A tokenizer's name and the sha256 of what decides its token ids, without downloading anything."""
    text = source.config["text_cfg"]
    settings: dict[str, Any] = {
        "context_length": text.get("context_length", 77),
        "arguments": text.get("tokenizer_kwargs", {}),
        "tokenizer": text.get("hf_tokenizer_name") or _BYTE_PAIRS,
    }
    if settings["tokenizer"] == _BYTE_PAIRS:
        settings["merges"] = source.merges
        settings["vocabulary"] = hashlib.sha256(Path(default_bpe()).read_bytes()).hexdigest()
    return settings["tokenizer"], hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
