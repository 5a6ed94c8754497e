"""Models that an installed package brings, named as entry points of the group ``clipmill.encoders``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from clipmill.core.errors import UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.encoders.library import ENTRY_POINT, ENTRY_POINTS, Place, entry_points
from clipmill.encoders.packaged import ImagePreparation, PackagedModel
from clipmill.encoders.precision import in_bfloat16
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.protocol import Loaded, Modality, Role, SoundPreparation
from clipmill.encoders.tokens import TokenForm, Tokenizer
from clipmill.encoders.weights import first_line, weights_sha256

_TRIED = ["", "a red circle", "A DOG, two dogs!", "Ünïcödé ☂ 123"]


@dataclass(frozen=True)
class Packaged:
    """How the model of a package is used. The network stands apart from it."""

    images: Preprocessing | ImagePreparation | None
    tokenizer: Tokenizer | None
    query_tokenizer: Tokenizer | None

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What the package prepares."""
        images: tuple[Modality, ...] = ("image",) if self.images else ()
        return (*images, "text") if self.tokenizer else images

    def load_tokenizer(self, role: Role = "document") -> Tokenizer:
        """Raises UserError for a model without texts."""
        found = (self.query_tokenizer if role == "query" else None) or self.tokenizer
        if found is None:
            raise UserError("this model encodes no texts")
        return found

    def image_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Features (n, d) of pictures, uint8 (n, *shape)."""
        assert self.images is not None
        features: torch.Tensor = network.encode_image(self.images.normalise(prepared).to(dtype))  # type: ignore[operator]
        return features

    def text_features(self, network: torch.nn.Module, tokens: torch.Tensor, *, cut: bool) -> torch.Tensor:
        """Features (n, d) of token ids, int64 (n, length)."""
        features: torch.Tensor = network.encode_text(tokens)  # type: ignore[operator]
        return features

    def can_cut(self, network: torch.nn.Module, tokens: torch.Tensor) -> bool:
        """Nobody has said so."""
        return False

    def towers(self, network: torch.nn.Module, precision: str, device: torch.device) -> torch.nn.Module:
        """The network itself, or a copy in bfloat16. Raises UserError for int8."""
        if precision == "int8":
            raise UserError("--precision int8 is for models of open_clip; leave it out, or say bf16")
        return in_bfloat16(network) if precision == "bf16" else network


@dataclass(frozen=True)
class PackagedWithSounds(Packaged):
    """The same of a package that prepares sounds too."""

    sounds: SoundPreparation

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What the package prepares."""
        return (*super().modalities, "audio")

    def sound_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Features (n, d) of windows of sound, uint8 (n, size)."""
        features: torch.Tensor = network.encode_audio(prepared)  # type: ignore[operator]
        return features


def load(place: Place, pretrained: str | None) -> Loaded:
    """The model that a package makes of ``--model NAME:ARGUMENT``; without an argument it is given ``--pretrained``.

    Raises UserError where it makes none, says that it cannot, or makes one whose two kinds of vectors differ in length.
    """
    name, _, argument = place.name.partition(":")
    point = entry_points()[name]
    told = f"--model {place.name}: {point.value}, which the package {_package(point)} brings as an encoder"
    try:
        made = point.load()(argument or pretrained)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{told}, failed: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(made, PackagedModel) or not (made.images or made.tokenizer or made.sounds):
        raise UserError(
            f"{told}, has to return a clipmill.encoders.packaged.PackagedModel that encodes pictures, texts or sounds"
        )
    parts = made.images, made.tokenizer, made.query_tokenizer
    encoder = PackagedWithSounds(*parts, made.sounds) if made.sounds else Packaged(*parts)
    network = made.network.eval().requires_grad_(False)
    described = made.images.as_dict() if made.images else {}
    if made.sounds:
        described["audio"] = made.sounds.as_dict()
    identity = ModelIdentity(
        name=place.name,
        pretrained=pretrained or "",
        weights_sha256=weights_sha256(network),
        preprocessing={"library": ENTRY_POINT, "modalities": list(encoder.modalities), **described},
        tokenizer=point.value,
        tokenizer_sha256=_tokenizer_sha256(encoder),
        dimension=_dimension(told, network, encoder),
        logit_scale=made.logit_scale,
        logit_bias=made.logit_bias,
    )
    return Loaded(network, encoder, identity)


def _package(point: object) -> str:
    distribution = getattr(point, "dist", None)
    return str(distribution.name) if distribution else ENTRY_POINTS


def _tokenizer_sha256(encoder: Packaged) -> str:
    """sha256 of what the tokenizers make of a few texts, since how they are made is not known."""
    digest = hashlib.sha256()
    roles: tuple[Role, ...] = ("document", "query") if encoder.tokenizer else ()
    for role in roles:
        ids = encoder.load_tokenizer(role)(_TRIED)
        digest.update(str(tuple(ids.shape)).encode() + ids.to(torch.int64).numpy().tobytes())
    return digest.hexdigest()


def _dimension(told: str, network: torch.nn.Module, encoder: Packaged) -> int:
    """Tried with a text, a picture and a silence."""
    shapes = []
    with torch.inference_mode():
        if encoder.images:
            blank = encoder.images.prepare(torch.zeros((3, *encoder.images.size), dtype=torch.uint8))
            shapes.append(encoder.image_features(network, blank[None], torch.float32).shape)
        if encoder.tokenizer:
            form = TokenForm.of(encoder.tokenizer)
            shapes.append(encoder.text_features(network, form.batch(form.tried[:1]), cut=False).shape)
        if isinstance(encoder, PackagedWithSounds):
            silence = encoder.sounds.prepare(np.zeros(encoder.sounds.rate, np.float32))
            shapes.append(encoder.sound_features(network, silence[None], torch.float32).shape)
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise UserError(f"{told}, makes vectors of the shapes {' and '.join(str(tuple(shape)) for shape in shapes)}")
    return int(shapes[0][1])
