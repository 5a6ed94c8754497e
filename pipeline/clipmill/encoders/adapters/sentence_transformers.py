"""Models of sentence-transformers: of texts, and of pictures or sounds with them, prepared by the library's own processor."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipmill.core.errors import UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.encoders.adapters.normalisation import Normalisation
from clipmill.encoders.adapters.prepared import ProcessorPreparation, processor_file
from clipmill.encoders.adapters.sounds import ExtractorPreparation
from clipmill.encoders.adapters.words import Padding, WordPieces, text_inputs, tokenizer_sha256
from clipmill.encoders.library import SENTENCE_TRANSFORMERS, Place, download, pretrained_of
from clipmill.encoders.precision import in_bfloat16
from clipmill.encoders.protocol import IMAGE_AND_TEXT, Loaded, Modality, Role
from clipmill.encoders.source import quiet
from clipmill.encoders.tokens import Tokenizer
from clipmill.encoders.weights import first_line, weights_sha256

_PROMPTS: dict[Role, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""The names of prompts that ``encode_query`` and ``encode_document`` look for."""
_TRIED = ["a", "two red dogs run along a beach towards the sea"]


@dataclass(frozen=True)
class SentenceModel:
    """A model of sentence-transformers. ``words`` has a tokenizer for each role, which differ in their prompts."""

    images: ProcessorPreparation | None
    normalisation: Normalisation | None
    words: dict[Role, WordPieces]
    padding: Padding

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Texts, and pictures where the model takes them."""
        return IMAGE_AND_TEXT if self.images else ("text",)

    def load_tokenizer(self, role: Role = "document") -> Tokenizer:
        """With the prompt of the role before every text."""
        return self.words[role]

    def image_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Features (n, d) of pictures, uint8 (n, *shape)."""
        assert self.images is not None
        assert self.normalisation is not None
        inputs = self.normalisation.inputs(self.images, prepared)
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        features: torch.Tensor = network({**inputs, "modality": "image"})["sentence_embedding"]
        return features

    def text_features(self, network: torch.nn.Module, tokens: torch.Tensor, *, cut: bool) -> torch.Tensor:
        """Features (n, d) of token ids, int64 (n, length)."""
        features: torch.Tensor = network({**text_inputs(tokens, self.padding), "modality": "text"})[
            "sentence_embedding"
        ]
        return features

    def can_cut(self, network: torch.nn.Module, tokens: torch.Tensor) -> bool:
        """The library itself fills texts up to the longest of a batch and no further."""
        return True

    def towers(self, network: torch.nn.Module, precision: str, device: torch.device) -> torch.nn.Module:
        """The network itself, or a copy in bfloat16."""
        return in_bfloat16(network) if precision == "bf16" else network


@dataclass(frozen=True)
class HearingModel(SentenceModel):
    """One that hears too, as CLAP does."""

    sounds: ExtractorPreparation

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Sounds, and what others encode."""
        return (*super().modalities, "audio")

    def sound_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Features (n, d) of spectrograms, uint8 (n, size)."""
        inputs = self.sounds.inputs(prepared, dtype)
        features: torch.Tensor = network({**inputs, "modality": "audio"})["sentence_embedding"]
        return features


def load(place: Place, *, trusted: bool) -> Loaded:
    """The model at a place: a folder, or one on the hub, which is downloaded.

    Raises UserError for a folder that cannot be loaded, for weights that are not in safetensors, for modules that are not the
    library's own (unless ``trusted``), and for models that prepare texts in ways that are not known here.
    """
    folder = download(place, code=trusted)
    _refuse_code(place, folder, trusted=trusted)
    network = _network(place, folder, trusted=trusted)
    encoder = _encoder(place, folder, network)
    prompts = {role: words.prompt for role, words in encoder.words.items()}
    described = encoder.images.as_dict() if encoder.images else {}
    if isinstance(encoder, HearingModel):
        described["audio"] = encoder.sounds.as_dict()
    document = encoder.words["document"]
    with torch.inference_mode():
        features = encoder.text_features(network, document(["a"]), cut=True)
    identity = ModelIdentity(
        name=place.name,
        pretrained=pretrained_of(place, folder),
        weights_sha256=weights_sha256(network),
        preprocessing={
            "library": SENTENCE_TRANSFORMERS,
            **described,
            "modalities": list(encoder.modalities),
            "prompts": prompts,
        },
        tokenizer=type(document.tokenizer).__name__,
        tokenizer_sha256=tokenizer_sha256(folder, document.length),
        dimension=min(int(features.shape[1]), network.truncate_dim or int(features.shape[1])),
        logit_scale=None,
    )
    return Loaded(network, encoder, identity)


def _refuse_code(place: Place, folder: Path, *, trusted: bool) -> None:
    """Raises UserError for weights that are a pickle, and for modules of other packages: loading either executes code."""
    for file in folder.rglob("pytorch_model.bin"):
        if not (file.parent / "model.safetensors").is_file():
            raise UserError(f"--model {place.name}: {file} would have to execute code to load; save it as safetensors")
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        foreign = [one["type"] for one in modules if not one["type"].startswith("sentence_transformers.")]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"--model {place.name}: {folder / 'modules.json'} is no list of modules") from None
    if foreign and not trusted:
        raise UserError(
            f"--model {place.name} is made with code of its own ({foreign[0]}): it needs --trust-remote-code"
        )


def _network(place: Place, folder: Path, *, trusted: bool) -> Any:
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    try:
        with quiet():
            network = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=trusted,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            )
    except ImportError as error:
        raise UserError(f"--model {place.name} needs a package that is not installed: {first_line(error)}") from None
    except Exception as error:
        raise UserError(
            f"--model {place.name}: {folder} cannot be loaded ({first_line(error)}); weights have to be safetensors"
        ) from None
    return network.float().eval().requires_grad_(False)


def _encoder(place: Place, folder: Path, network: Any) -> SentenceModel:
    tokenizer, length = network.tokenizer, network.max_seq_length
    unknown = UserError(
        f"--model {place.name} prepares texts in a way that is not supported: known are transformer models that take token "
        "ids, with a prompt that stands before a text"
    )
    if not callable(tokenizer) or not length or any(hasattr(module, "default_route") for module in network):
        raise unknown
    prompts = {role: _prompt(network, role) for role in _PROMPTS}
    pooled = (getattr(module, "include_prompt", True) for module in network)
    if any(prompts.values()) and not all(pooled):
        raise unknown  # the vector is the mean of what stands after the prompt
    words = {role: WordPieces(tokenizer, int(length), prompt) for role, prompt in prompts.items()}
    encoder = SentenceModel(None, None, words, Padding.of(tokenizer))
    if not all(_same(network, encoder, role) for role in _PROMPTS):
        raise unknown
    processor = getattr(network.processor, "image_processor", None)
    if processor is not None and network.supports("image") and _takes_pixels_alone(network):
        images = ProcessorPreparation.of(processor, processor_file(folder))
        encoder = replace(encoder, images=images, normalisation=Normalisation.of(images))
    sounds = _sounds(network, folder)
    return encoder if sounds is None else HearingModel(**vars(encoder), sounds=sounds)


def _sounds(network: Any, folder: Path) -> ExtractorPreparation | None:
    """How sounds are prepared, where the network is given what that makes of one as the library itself gives it."""
    extractor = getattr(network.processor, "feature_extractor", None)
    if not network.supports("audio") or not hasattr(extractor, "nb_max_samples"):
        return None
    told = processor_file(folder)
    sounds = ExtractorPreparation.of(extractor, dict(told.get("feature_extractor", told)))
    second = np.sin(np.arange(sounds.rate, dtype=np.float32))
    theirs = network.preprocess([{"array": second, "sampling_rate": sounds.rate}])
    ours = sounds.inputs(sounds.prepare(second)[None], torch.float32)
    known = set(theirs) <= {*ours, "is_longer", "modality"}
    return sounds if known and all(torch.equal(theirs[name].to(one.dtype), one) for name, one in ours.items()) else None


def _prompt(network: Any, role: Role) -> str:
    named = next((name for name in _PROMPTS[role] if name in network.prompts), network.default_prompt_name)
    return str(network.prompts.get(named) or "")


def _same(network: Any, encoder: SentenceModel, role: Role) -> bool:
    """Whether a few texts are given to the network as the library itself gives them."""
    words = encoder.words[role]
    theirs = network.preprocess(_TRIED, prompt=words.prompt or None)
    if "input_ids" not in theirs or theirs["input_ids"].shape[0] != len(_TRIED):
        return False
    width = theirs["input_ids"].shape[1]
    ours = text_inputs(words(_TRIED)[:, :width], encoder.padding)
    return all(name in theirs and torch.equal(theirs[name], values) for name, values in ours.items())


def _takes_pixels_alone(network: Any) -> bool:
    """Whether a picture is given to the network as pixels, and not within a text around it."""
    from PIL import Image

    return set(network.preprocess([Image.new("RGB", (48, 64))])) <= {
        "pixel_values",
        "pixel_attention_mask",
        "spatial_shapes",
        "modality",
    }
