"""A few texts as vectors without torch: importing it takes seconds, a query takes milliseconds.

Only CLIP's own text tower in float32 from safetensors is done so, and only where weights and tokenizer are those of the
identity that is asked for; for everything else there is `clipmill.encoders.model`. Both agree to rounding.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmill.core.manifests import ModelIdentity
from clipmill.encoders.byte_pairs import BytePairs, vocabulary_file
from clipmill.encoders.names import BUILTIN_FOLDERS, CONFIG_FILE, LOCAL_DIR, builtin_of

FEW_TEXTS = 16
_WEIGHTS_FILE = "open_clip_model.safetensors"
_PLAIN = {"context_length", "vocab_size", "width", "heads", "layers"}
"""What a text tower that is configured with these alone is: causal, pre-normed, read at the end of the text."""
_EPSILON = 1e-5

Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class LightTexts:
    """A text tower of ``width`` and ``layers``; ``weights`` are named as open_clip names them;
    vectors are cut to ``dimension``."""

    weights: Weights
    tokenizer: BytePairs
    layers: int
    heads: int
    quick_gelu: bool
    dimension: int

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, float32 (n, d)."""
        vectors = np.stack([self._features(self.tokenizer.tokens(text))[: self.dimension] for text in texts])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
        return unit

    def _features(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        weights = self.weights
        hidden = weights["token_embedding.weight"][tokens] + weights["positional_embedding"][: len(tokens)]
        for layer in range(self.layers):
            block = f"transformer.resblocks.{layer}."
            hidden = hidden + self._attention(block, self._normed(f"{block}ln_1", hidden))
            wide = self._linear(f"{block}mlp.c_fc", self._normed(f"{block}ln_2", hidden))
            hidden = hidden + self._linear(f"{block}mlp.c_proj", self._activated(wide))
        features: NDArray[np.float32] = self._normed("ln_final", hidden[-1:])[0] @ weights["text_projection"]
        return features

    def _attention(self, block: str, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        length, width = hidden.shape
        inputs = hidden @ self.weights[f"{block}attn.in_proj_weight"].T + self.weights[f"{block}attn.in_proj_bias"]
        # (length, 3 · width) → query, key and value, each (heads, length, width / heads)
        query, key, value = inputs.reshape(length, 3, self.heads, width // self.heads).transpose(1, 2, 0, 3)
        scores = query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(width // self.heads))
        scores[:, np.triu(np.ones((length, length), bool), 1)] = -np.inf  # no token sees those after it
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return self._linear(f"{block}attn.out_proj", (shares @ value).transpose(1, 0, 2).reshape(length, width))

    def _linear(self, name: str, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = hidden @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return result

    def _normed(self, name: str, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        result: NDArray[np.float32] = (
            centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        )
        return result

    def _activated(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.quick_gelu:
            result: NDArray[np.float32] = hidden / (1 + np.exp(np.float32(-1.702) * hidden))
            return result
        erf = np.frompyfunc(math.erf, 1, 1)(hidden / math.sqrt(2)).astype(np.float32)
        result = np.float32(0.5) * hidden * (1 + erf)
        return result


def light_texts(identity: ModelIdentity, pretrained: str | None = None) -> LightTexts | None:
    """The text tower of this very model, from where its weights were, or are now (``pretrained``); None where it is of
    another make, or its weights or tokenizer are not the identity's."""
    found = _find(identity, pretrained or identity.pretrained)
    if found is None:
        return None
    config, merges, file = found
    text = config.get("text_cfg", {})
    plain = set(text) <= _PLAIN and set(config) <= {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
    if not plain or _tokenizer_sha256(text, merges) != identity.tokenizer_sha256:
        return None
    from safetensors.numpy import load_file

    weights = load_file(file)
    if _weights_sha256(weights) != identity.weights_sha256 or "text_projection" not in weights:
        return None
    texts = {name: array.astype(np.float32) for name, array in weights.items() if not name.startswith("visual.")}
    tokenizer = BytePairs(merges, text.get("context_length", 77))
    return LightTexts(
        texts, tokenizer, text["layers"], text["heads"], bool(config.get("quick_gelu")), identity.dimension
    )


def _find(identity: ModelIdentity, pretrained: str) -> tuple[dict[str, Any], int | None, Path] | None:
    """The configuration of a model, the merges of its tokenizer (None: all), and its file of weights."""
    if identity.name in BUILTIN_FOLDERS and not pretrained:
        place = BUILTIN_FOLDERS[builtin_of(identity.name, identity.weights_sha256)]
    else:
        place = Path(pretrained.removeprefix(LOCAL_DIR)).expanduser()
    folder = place if place.is_dir() else place.parent
    file = place / _WEIGHTS_FILE if place.is_dir() else place
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    if (folder / CONFIG_FILE).is_file():
        described = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        return described.get("model_cfg", {}), described.get("tokenizer_merges"), file
    known = vocabulary_file().parent / "model_configs" / f"{identity.name}.json"
    return (json.loads(known.read_text(encoding="utf-8")), None, file) if known.is_file() else None


def _tokenizer_sha256(text: Mapping[str, Any], merges: int | None) -> str:
    """As `clipmill.encoders.tokenizer.describe_tokenizer` says it of a byte-pair tokenizer."""
    settings = {
        "context_length": text.get("context_length", 77),
        "arguments": {},
        "tokenizer": "clip-bpe",
        "merges": merges,
        "vocabulary": hashlib.sha256(vocabulary_file().read_bytes()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _weights_sha256(weights: Weights) -> str:
    """As `clipmill.encoders.model.weights_sha256` says it of a network."""
    digest = hashlib.sha256()
    for name, array in sorted(weights.items()):
        digest.update(f"{name}{tuple(array.shape)}".encode())
        values = array.astype(np.float32) if array.dtype.kind == "f" else array
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
