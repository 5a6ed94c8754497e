"""Captions to token ids: open_clip's tokenizer for the model, and the cut vocabulary of small models."""

import gzip
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer, default_bpe

from pipeline.errors import UserError

Tokenizer = Callable[[Sequence[str]], torch.Tensor]
"""Texts to int64 (n, context length)."""


def cut_tokenizer(merges: int, context_length: int) -> Tokenizer:
    """CLIP's byte-pair tokenizer with only the first ``merges`` merges of its vocabulary.

    Its vocabulary has 512 bytes and byte ends, the merges, and two special tokens: ``vocab_size = merges + 514``.
    """
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as stream:
        lines = [next(stream) for _ in range(merges + 1)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "merges.txt.gz"
        path.write_bytes(gzip.compress("".join(lines).rstrip("\n").encode()))
        return SimpleTokenizer(bpe_path=str(path), context_length=context_length)


def load_tokenizer(name: str, config: Mapping[str, Any], merges: int | None) -> Tokenizer:
    """The tokenizer of a model. Raises UserError when it would have to be downloaded and cannot be."""
    text = config["text_cfg"]
    if merges is not None:
        return cut_tokenizer(merges, text["context_length"])
    try:
        return open_clip.get_tokenizer(name)
    except ImportError as error:
        raise UserError(f"--model {name}: its tokenizer needs a package that is not installed: {error}") from None
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--model {name}: its tokenizer {text.get('hf_tokenizer_name') or ''} could not be loaded ({reason}); it is "
            "downloaded from the Hugging Face hub on first use: run once with network access, or set HF_HOME to a copy"
        ) from None


def describe_tokenizer(name: str, config: Mapping[str, Any], merges: int | None) -> tuple[str, str]:
    """A tokenizer's name and the sha256 of what decides its token ids, without downloading anything."""
    text = config["text_cfg"]
    settings: dict[str, Any] = {
        "context_length": text.get("context_length", 77),
        "arguments": text.get("tokenizer_kwargs", {}),
    }
    kind = text.get("hf_tokenizer_name")
    if not kind and "siglip" in name.lower():
        kind = "siglip2" if "siglip2" in name.lower() else "siglip-i18n" if "i18n" in name.lower() else "siglip"
    if not kind:
        kind = "clip-bpe"
        settings["merges"] = merges
        settings["vocabulary"] = hashlib.sha256(Path(default_bpe()).read_bytes()).hexdigest()
    settings["tokenizer"] = kind
    return kind, hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
