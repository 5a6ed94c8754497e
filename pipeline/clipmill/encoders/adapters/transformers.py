"""Two-tower models of transformers: those whose pictures and texts are known to lie in one space, each tried by a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clipmill.core.errors import UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.encoders.adapters.normalisation import Normalisation
from clipmill.encoders.adapters.prepared import ProcessorPreparation, processor_file
from clipmill.encoders.adapters.sounds import SoundTowers
from clipmill.encoders.adapters.text_tower import FIRST_TOKEN, POOLED, TextTower
from clipmill.encoders.adapters.videos import VideoTowers
from clipmill.encoders.adapters.words import Padding, WordPieces, tokenizer_sha256
from clipmill.encoders.library import TRANSFORMERS, Place, download, pretrained_of
from clipmill.encoders.protocol import IMAGE_AND_TEXT, Loaded, Modality
from clipmill.encoders.source import quiet
from clipmill.encoders.weights import first_line, weights_sha256

POOLING = {
    "align": POOLED,
    "altclip": POOLED,
    "chinese_clip": POOLED,
    "clip": POOLED,
    "flava": FIRST_TOKEN,
    "groupvit": POOLED,
    "metaclip_2": POOLED,
    "siglip": POOLED,
    "siglip2": POOLED,
    "vision-text-dual-encoder": POOLED,
}
"""By ``model_type``: where the vector of a picture or text stands in what the towers return. A class that is not named here may
have both towers and no common space (BLIP-2, OWL-ViT)."""
CLIPS: dict[str, type[SoundTowers] | type[VideoTowers]] = {"clap": SoundTowers, "xclip": VideoTowers}
"""Of these ``model_type``s the other tower takes sounds or videos."""
_WHOLE_TEXTS = {"siglip", "siglip2"}
"""Trained on texts that are filled up to the context length: their vector is read at the last position."""
_OFFSET_POSITIONS = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "altclip",
    "altclip_text_model",
    "metaclip_2_xlm",
    "clap_text_model",
}
"""Text towers whose positions are counted from one after the id of the padding."""
_UNLIMITED = 100_000


@dataclass(frozen=True)
class TwoTowers(TextTower):
    """A model of transformers with ``get_image_features`` and ``get_text_features``."""

    images: ProcessorPreparation
    normalisation: Normalisation

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Pictures and texts."""
        return IMAGE_AND_TEXT

    def image_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Features (n, d) of pictures, uint8 (n, *shape)."""
        inputs = self.normalisation.inputs(self.images, prepared)
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        return self._pooled(network.get_image_features(**inputs))  # type: ignore[operator]


def load(place: Place, *, trusted: bool) -> Loaded:
    """The model at a place: a folder, or one on the hub, which is downloaded.

    Raises UserError for a class that is not known to have both towers in one space (unless its code is ``trusted``), a folder
    in which a part is missing, and weights that are not in safetensors or not complete.
    """
    folder = download(place, code=trusted)
    kind = _kind(place, folder)
    if kind in CLIPS:
        return _load_clips(place, folder, kind)
    if kind not in POOLING and not trusted:
        raise UserError(
            f"--model {place.name} is of the type {kind!r}, which is not known to have its towers in one space; known are "
            f"{', '.join([*POOLING, *CLIPS])}; a model that brings its own code needs --trust-remote-code"
        )
    network = _network(place, folder, ("get_image_features", "get_text_features"), trusted=trusted)
    encoder = _encoder(place, folder, network, kind, trusted=trusted)
    dimension = _dimension(place, network, encoder)
    scale, bias = _logits(network)
    identity = ModelIdentity(
        name=place.name,
        pretrained=pretrained_of(place, folder),
        weights_sha256=weights_sha256(network),
        preprocessing={"library": TRANSFORMERS, **encoder.images.as_dict(), "pooling": encoder.pooling},
        tokenizer=type(encoder.words.tokenizer).__name__,
        tokenizer_sha256=tokenizer_sha256(folder, encoder.words.length),
        dimension=dimension,
        logit_scale=scale,
        logit_bias=bias,
    )
    return Loaded(network, encoder, identity)


def _load_clips(place: Place, folder: Path, kind: str) -> Loaded:
    """A model of sounds or of videos, and texts."""
    tower = CLIPS[kind]
    network = _network(place, folder, (tower.method, "get_text_features"), trusted=False)
    tokenizer = _opened(place, folder, "tokenizer", lambda auto: auto.AutoTokenizer.from_pretrained(folder))
    prepared = _opened(place, folder, tower.needs, lambda auto: tower.prepared(auto, folder, network))
    words = WordPieces(tokenizer, text_length(network.config, tokenizer))
    encoder = tower(words, Padding.of(tokenizer), False, POOLED, *prepared)
    scale, bias = _logits(network)
    identity = ModelIdentity(
        name=place.name,
        pretrained=pretrained_of(place, folder),
        weights_sha256=weights_sha256(network),
        preprocessing={"library": TRANSFORMERS, "modalities": list(encoder.modalities), **encoder.as_dict()},
        tokenizer=type(tokenizer).__name__,
        tokenizer_sha256=tokenizer_sha256(folder, words.length),
        dimension=_clip_dimension(place, network, encoder),
        logit_scale=scale,
        logit_bias=bias,
    )
    return Loaded(network, encoder, identity)


def _clip_dimension(place: Place, network: torch.nn.Module, encoder: SoundTowers | VideoTowers) -> int:
    with torch.inference_mode():
        texts, clips = encoder.text_features(network, encoder.words(["a"]), cut=False), encoder.tried(network)
    return _common(place, texts, clips, "clip")


def _dimension(place: Place, network: torch.nn.Module, encoder: TwoTowers) -> int:
    """Tried with one text and one picture. Raises UserError where the two cannot be compared."""
    blank = encoder.images.prepare(torch.zeros((3, *encoder.images.size), dtype=torch.uint8))
    with torch.inference_mode():
        texts = encoder.text_features(network, encoder.words(["a"]), cut=False)
        images = encoder.image_features(network, blank[None], torch.float32)
    return _common(place, texts, images, "picture")


def _common(place: Place, texts: torch.Tensor, others: torch.Tensor, what: str) -> int:
    if texts.dim() != 2 or others.shape != texts.shape:
        raise UserError(
            f"--model {place.name} has no common space: its vectors of a {what} are of the shape {tuple(others.shape[1:])}, "
            f"those of a text {tuple(texts.shape[1:])}"
        )
    return int(texts.shape[1])


def _kind(place: Place, folder: Path) -> str:
    file = folder / "config.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8")).get("model_type"))
    except (OSError, ValueError, AttributeError):
        raise UserError(f"--model {place.name}: {file} cannot be read as the configuration of a model") from None


def _network(place: Place, folder: Path, towers: Sequence[str], *, trusted: bool) -> torch.nn.Module:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        with quiet():
            network, told = transformers.AutoModel.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=trusted,
                output_loading_info=True,
                local_files_only=True,
            )
    except ImportError as error:
        raise UserError(f"--model {place.name} needs a package that is not installed: {first_line(error)}") from None
    except Exception as error:
        raise UserError(
            f"--model {place.name}: {folder} cannot be loaded ({first_line(error)}); weights have to be safetensors"
        ) from None
    if missing := sorted(told["missing_keys"]):
        raise UserError(
            f"--model {place.name}: {folder} has no weights for {len(missing)} tensors, such as {missing[0]}"
        )
    for tower in towers:
        if not hasattr(network, tower):
            raise UserError(f"--model {place.name} is no model of two towers: {type(network).__name__} has no {tower}")
    made: torch.nn.Module = network.eval().requires_grad_(False)
    return made


def _opened(place: Place, folder: Path, what: str, read: Callable[[Any], Any]) -> Any:
    """A part of a model that is not its network, as ``read`` reads it by the library. Raises UserError where that fails."""
    import transformers

    try:
        with quiet():
            return read(transformers)
    except ImportError as error:
        raise UserError(f"--model {place.name} needs a package that is not installed: {first_line(error)}") from None
    except Exception as error:
        raise UserError(
            f"--model {place.name}: {folder} has no {what} that can be loaded ({first_line(error)})"
        ) from None


def _encoder(place: Place, folder: Path, network: Any, kind: str, *, trusted: bool) -> TwoTowers:
    def read(library: Any) -> tuple[Any, Any]:
        processor = library.AutoImageProcessor.from_pretrained(folder, trust_remote_code=trusted)
        return processor, library.AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)

    processor, tokenizer = _opened(place, folder, "image processor and tokenizer", read)
    images = ProcessorPreparation.of(processor, processor_file(folder))
    return TwoTowers(
        images=images,
        normalisation=Normalisation.of(images),
        words=WordPieces(tokenizer, text_length(network.config, tokenizer)),
        padding=Padding.of(tokenizer),
        whole=kind in _WHOLE_TEXTS,
        pooling=POOLING.get(kind, POOLED),
    )


def text_length(config: Any, tokenizer: Any) -> int:
    """The most tokens of a text: what the tokenizer says, and what the text tower has positions for."""
    text = getattr(config, "text_config", config)
    positions = getattr(text, "max_position_embeddings", None) or _UNLIMITED
    if text.model_type in _OFFSET_POSITIONS:
        positions -= (getattr(text, "pad_token_id", None) or 0) + 1
    return int(min(tokenizer.model_max_length, positions))


def _logits(network: Any) -> tuple[float | None, float | None]:
    """What a cosine is multiplied with, and what is added, before the softmax or sigmoid that the model was trained with."""
    scale, bias = getattr(network, "logit_scale", None), getattr(network, "logit_bias", None)
    scale = getattr(network, "logit_scale_a", None) if scale is None else scale  # CLAP has one for each direction
    if scale is not None:
        return float(scale.exp()), None if bias is None else float(bias)
    temperature = getattr(network, "temperature", None)
    return None if temperature is None else 1 / float(temperature), None
