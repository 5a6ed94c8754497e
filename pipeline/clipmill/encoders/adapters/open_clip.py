"""Models of open_clip: everything that it loads, and the built-in one."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import open_clip
import torch
from open_clip.factory import load_checkpoint

from clipmill.core.compiler import bring_timm
from clipmill.core.errors import UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.core.settings import ModelSettings
from clipmill.encoders.precision import at_precision
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.protocol import IMAGE_AND_TEXT, Loaded, Modality, Role
from clipmill.encoders.source import ModelSource, find_model, quiet
from clipmill.encoders.spectrogram import Spectrogram
from clipmill.encoders.text import agrees_when_cut, encode_tokens
from clipmill.encoders.tokenizer import describe_tokenizer, load_tokenizer
from clipmill.encoders.tokens import Tokenizer
from clipmill.encoders.weights import first_line, weights_sha256


@dataclass(frozen=True)
class OpenClip:
    """A model with an image and a text tower, as open_clip calls them."""

    source: ModelSource
    images: Preprocessing

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Pictures and texts."""
        return IMAGE_AND_TEXT

    def load_tokenizer(self, role: Role = "document") -> Tokenizer:
        """The same for queries: these models know no prompts."""
        return load_tokenizer(self.source)

    def image_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Features (n, d) of pictures, uint8 (n, 3, height, width)."""
        features: torch.Tensor = network.encode_image(  # type: ignore[operator]
            self.images.normalise(prepared).to(dtype), normalize=False
        )
        return features

    def text_features(self, network: torch.nn.Module, tokens: torch.Tensor, *, cut: bool) -> torch.Tensor:
        """Features (n, d) of token ids, int64 (n, length)."""
        return encode_tokens(network, tokens, cut=cut)

    def can_cut(self, network: torch.nn.Module, tokens: torch.Tensor) -> bool:
        """Where the text tower is causal and does not look at padding."""
        return agrees_when_cut(network, tokens)

    def towers(self, network: torch.nn.Module, precision: str, device: torch.device) -> torch.nn.Module:
        """The network at a precision; on a GPU convolutions with the channels last, as it computes them fastest."""
        towers = at_precision(network, precision)
        if device.type == "cuda" and _is_convolutional(network):
            towers.get_submodule("visual").to(memory_format=torch.channels_last)
        return towers


@dataclass(frozen=True)
class OpenClipWithSounds(OpenClip):
    """A model whose image tower sees the spectrograms of sounds too."""

    sounds: Spectrogram

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Pictures, texts and sounds."""
        return (*IMAGE_AND_TEXT, "audio")

    def sound_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Features (n, d) of spectrograms, uint8 (n, side · side)."""
        return self.image_features(network, self.sounds.pictures(prepared), dtype)


def load(settings: ModelSettings, known: Preprocessing | None = None) -> Loaded:
    """The model that the settings name. ``known`` takes the place of the preprocessing that is published with it.

    Raises UserError for a model, tag or file that is not there, a checkpoint of another architecture, and a checkpoint that
    would have to execute code to load.
    """
    source = find_model(settings, preprocess=known.as_dict() if known else None)
    network = build_network(source)
    load_weights(network, source)
    network.eval().requires_grad_(False)
    preprocessing = known or preprocessing_of(network, source)
    encoder = OpenClip(source, preprocessing)
    if source.sounds is not None:
        sounds = Spectrogram.from_dict(source.sounds)
        if preprocessing.size != (sounds.side, sounds.side):
            height, width = preprocessing.size
            raise UserError(
                f"the model's configuration has spectrograms of {sounds.side} × {sounds.side}, and its image tower sees "
                f"{height} × {width}; they must be of one size"
            )
        encoder = OpenClipWithSounds(source, preprocessing, sounds)
    return Loaded(network, encoder, identify(network, source, preprocessing))


def _is_convolutional(network: torch.nn.Module) -> bool:
    """Whether pictures go through more convolutions than the one that cuts them into patches."""
    layers = (type(layer) is torch.nn.Conv2d for layer in network.get_submodule("visual").modules())
    return sum(layers) > 1


def build_network(source: ModelSource) -> torch.nn.Module:
    """The architecture of a model with fresh weights, float32 on the CPU."""
    name = f"local-dir:{source.folder}" if source.folder else source.name
    if source.config["vision_cfg"].get("timm_model_name"):
        bring_timm()
    try:
        with quiet():
            network: torch.nn.Module = open_clip.create_model(
                name, load_weights=False, pretrained_text=False, device="cpu"
            )
    except ImportError as error:
        raise UserError(f"--model {source.name} needs a package that is not installed: {error}") from None
    except OSError as error:
        raise UserError(f"--model {source.name}: a part of it could not be downloaded: {first_line(error)}") from None
    return network


def load_weights(network: torch.nn.Module, source: ModelSource) -> None:
    """Fills the network from the weights file, which may hold tensors but no code."""
    try:
        with quiet():
            load_checkpoint(network, str(source.weights), strict=True, weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{source.weights} is not a checkpoint that can be loaded without executing code from it, which clipmill "
            "does not do; save its state_dict as safetensors"
        ) from None
    except (RuntimeError, KeyError, AttributeError, StopIteration) as error:
        if "TorchScript" in str(error):
            raise UserError(
                f"{source.weights} is a TorchScript archive, which holds code; save its state_dict as safetensors"
            ) from None
        raise UserError(f"{source.weights} is not a checkpoint of --model {source.name}: {_mismatch(error)}") from None
    except Exception as error:
        raise UserError(f"{source.weights} cannot be read as a checkpoint: {first_line(error)}") from None


def _mismatch(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:2] or lines or [type(error).__name__])[:300]


def preprocessing_of(network: torch.nn.Module, source: ModelSource) -> Preprocessing:
    """The preprocessing of these weights at the picture size of this network."""
    size = getattr(network.visual, "image_size", source.preprocess["size"])
    return Preprocessing.from_open_clip({**source.preprocess, "size": size})


def identify(network: torch.nn.Module, source: ModelSource, preprocessing: Preprocessing) -> ModelIdentity:
    """What makes vectors of this model comparable with others: see `ModelIdentity.differences`."""
    tokenizer, tokenizer_sha256 = describe_tokenizer(source)
    return ModelIdentity(
        name=source.name,
        pretrained=source.pretrained,
        weights_sha256=weights_sha256(network),
        preprocessing={**preprocessing.as_dict(), **_hearing(source)},
        tokenizer=tokenizer,
        tokenizer_sha256=tokenizer_sha256,
        dimension=int(source.config["embed_dim"]),
        logit_scale=float(network.logit_scale.exp()),  # type: ignore[operator]
        logit_bias=_logit_bias(network),
    )


def _hearing(source: ModelSource) -> dict[str, object]:
    if source.sounds is None:
        return {}
    return {"modalities": [*IMAGE_AND_TEXT, "audio"], "audio": source.sounds}


def _logit_bias(network: torch.nn.Module) -> float | None:
    bias = getattr(network, "logit_bias", None)
    return None if bias is None else float(bias)
