"""Two towers that learn to match pictures and texts: built, filled, and made ready for what the settings ask."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional as F

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings, TrainSettings
from clipmill.encoders.library import OPEN_CLIP, find_place
from clipmill.encoders.model import build_network, load_weights, preprocessing_of
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.source import ModelSource, find_model
from clipmill.encoders.spectrogram import Spectrogram
from clipmill.encoders.text import encode_tokens, without_padding
from clipmill.encoders.tokenizer import load_tokenizer
from clipmill.encoders.tokens import Tokenizer
from clipmill.storage import Location
from clipmill.train.batches import Batch
from clipmill.train.checkpoint import write_model
from clipmill.train.learner import Weights
from clipmill.train.parts import add_adapters, add_bias, begin_decoder, freeze, part_of, set_modes
from clipmill.train.rows import Example
from clipmill.train.step import step_backward
from clipmill.train.truth import Part
from clipmill.train.validate import Validation, validate
from clipmill.train.workers import Workers


@dataclass(frozen=True)
class Towers:
    """A network of open_clip that learns, on one device, as its settings say. ``adapters`` is peft's wrapper where low-rank
    updates are trained."""

    network: torch.nn.Module
    source: ModelSource
    pictures: Preprocessing
    device: torch.device
    half: bool
    settings: TrainSettings
    adapters: Any = None

    @property
    def name(self) -> str:
        """What the model is called in records."""
        return self.source.name

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Texts to int64 (n, context length)."""
        return load_tokenizer(self.source)

    @property
    def bias(self) -> torch.Tensor | None:
        """What the sigmoid loss adds to every logit."""
        bias: torch.Tensor | None = getattr(self.network, "logit_bias", None)
        return bias

    def scale(self) -> torch.Tensor:
        """The inverse temperature, a scalar with a gradient."""
        scale: torch.Tensor = self.network.logit_scale.exp()  # type: ignore[operator]
        return scale

    def learning(self) -> None:
        """Puts the network into training mode, but for what is frozen."""
        set_modes(self.network)

    def backward(
        self, step: int, batch: Batch, parts: Sequence[Part], workers: Workers, statistics: Sequence[torch.Tensor]
    ) -> float:
        """Of the contrastive loss, and of captioning where that is learned (`clipmill.train.step`)."""
        return step_backward(self, self.settings, step, batch, parts, workers, statistics)

    def validate(self, examples: Iterable[Example], templates: Sequence[str]) -> Validation:
        """Retrieval among the examples, and the names of their labels."""
        return validate(
            examples,
            lambda pixels: self.encode_pixels(self.pixels(pixels)).cpu(),
            lambda texts: self.encode_tokens(self.tokens(texts)).cpu(),
            templates=templates,
        )

    def measures(self) -> dict[str, float]:
        """The inverse temperature."""
        with torch.no_grad():
            return {"logit_scale": round(float(self.scale()), 4)}

    def write(self, folder: Location, weights: Weights) -> None:
        """In open_clip's local-dir layout."""
        write_model(folder, self.source, weights)

    def pixels(self, prepared: torch.Tensor) -> torch.Tensor:
        """Prepared pictures, uint8 (n, 3, height, width), on the device."""
        return prepared.to(self.device)

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts as int64 (n, length) on the device, without the padding that the text tower ignores."""
        if not texts:
            return torch.empty((0, 1), dtype=torch.int64, device=self.device)
        return without_padding(self.network, self.tokenizer(list(texts))).to(self.device)

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit vectors, float32 (n, d), of pictures on the device."""
        prepared = self.pictures.normalise(pixels).contiguous(memory_format=torch.channels_last)
        return self._unit(lambda: self.network.encode_image(prepared))  # type: ignore[operator]

    def encode_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unit vectors, float32 (n, d), of token ids on the device."""
        return self._unit(lambda: encode_tokens(self.network, tokens))

    @property
    def padding(self) -> int:
        """The token id that fills up captions."""
        padding: int = getattr(self.network, "pad_id", 0)
        return padding

    def say(self, pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the decoder of captions makes of pictures and their captions so far (`clipmill.train.captioning.Say`)."""
        prepared = self.pictures.normalise(pixels)
        with self._autocast():
            found = self.network(prepared, tokens)
        return found["logits"].float(), found["labels"]

    def _unit(self, encode: Callable[[], torch.Tensor]) -> torch.Tensor:
        with self._autocast():
            features = encode()
        return F.normalize(features.float(), dim=-1)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)

    def trained(self) -> Weights:
        """All weights and statistics of the network as it is trained."""
        return self.network.state_dict()

    def whole(self) -> Weights:
        """The weights under the names of the architecture, on the CPU, low-rank updates added in."""
        if self.adapters is not None:
            self.adapters.merge_adapter()
        found = {_plain(name): tensor for name, tensor in self.network.state_dict().items() if "lora_" not in name}
        found = {name: tensor.detach().cpu().clone() for name, tensor in found.items()}
        if self.adapters is not None:
            self.adapters.unmerge_adapter()
        return found

    def fill(self, weights: Weights) -> None:
        """Takes over weights such as `whole` gives. Low-rank updates are gone after it, so nothing is trained further."""
        if self.adapters is not None:
            with torch.no_grad():
                for name, weight in self.network.named_parameters():
                    if "lora_B" in name:
                        weight.zero_()
        mine = {_plain(name): tensor for name, tensor in self.network.state_dict().items() if "lora_" not in name}
        with torch.no_grad():
            for name, tensor in weights.items():
                mine[name].copy_(tensor)


def _plain(name: str) -> str:
    return name.replace(".base_layer", "")


def find_source(settings: TrainSettings) -> ModelSource:
    """The model that the settings name. Raises UserError as `find_model` does, and for a model of another library."""
    named = ModelSettings(model=settings.model, pretrained=settings.pretrained, preprocessing=settings.preprocessing)
    library = find_place(named).library
    if library != OPEN_CLIP:
        raise UserError(
            f"--model {settings.model or settings.pretrained} is a model of {library}, and clipmill train trains those of "
            "open_clip: name one of these, or a folder with an open_clip_config.json"
        )
    source = find_model(named, trained=settings.pretrained is not None)
    if settings.audio_column is None or source.sounds is not None:
        return source
    side = source.config["vision_cfg"].get("image_size")
    if not isinstance(side, int):
        raise UserError(
            f"--audio-column: the image tower of {source.name} sees spectrograms, which are square, and its "
            "configuration says no square picture size; name another --model"
        )
    return replace(source, sounds=Spectrogram(side).as_dict())


def make_towers(settings: TrainSettings, device: torch.device) -> Towers:
    """The network that the settings name, with fresh weights that their seed decides or with those they name.

    Raises UserError as `find_model` and `load_weights` do, and where peft is asked for and missing.
    """
    source = find_source(settings)
    torch.manual_seed(settings.seed)
    network = build_network(source)
    if source.weights is not None:
        load_weights(network, source)
    else:
        begin_decoder(network)
    preprocessing = preprocessing_of(network, source)
    if settings.loss == "siglip":
        add_bias(network)
        config = {**source.config, "init_logit_bias": float(network.logit_bias.detach())}  # type: ignore[operator]
        source = replace(source, config=config)
    freeze(network, settings.freeze)
    adapters = add_adapters(network, settings.lora) if settings.lora else None
    if adapters is not None and settings.freeze != "none":
        for name, weight in network.named_parameters():
            if part_of(name) == settings.freeze:
                weight.requires_grad_(False)
    if settings.checkpoint_activations:
        network.set_grad_checkpointing(True)  # type: ignore[operator]
    network.to(device=device)
    network.to(memory_format=torch.channels_last)  # half as much time again for convolutions
    half = settings.precision == "bf16" or (settings.precision == "auto" and device.type == "cuda")
    return Towers(network, source, preprocessing, device, half, settings, adapters)
