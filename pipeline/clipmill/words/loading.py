"""From settings to a model that writes: where it is and what it is first, by its files alone; then the model itself."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipmill.core.errors import UserError
from clipmill.core.settings import AskSettings, GeneratorSettings, ModelSettings
from clipmill.core.text_manifests import GeneratorIdentity
from clipmill.encoders.library import OPEN_CLIP, TRANSFORMERS, Place, download, find_place, pretrained_of, require
from clipmill.encoders.names import known_models, nearest
from clipmill.storage import Location
from clipmill.words.engines.kinds import COCA, HTTP, VLLM, refuse_unasked
from clipmill.words.folder import ModelFolder, files_sha256, folder_here
from clipmill.words.names import BUILTIN_WRITER, BUILTIN_WRITER_FOLDER

if TYPE_CHECKING:
    from clipmill.words.engines.http import HttpGenerator
    from clipmill.words.engines.open_clip import CocaGenerator
    from clipmill.words.engines.transformers import TransformersGenerator

    AnyGenerator = CocaGenerator | TransformersGenerator | HttpGenerator


SMALL_BYTES = 200_000_000
"""Weights up to which a model is small: one of 4 MB wrote some fourteen times as many captions a CPU second with one thread as
with two, on two busy cores."""


@dataclass(frozen=True)
class FoundGenerator:
    """A model that is there to be loaded: its type, where its files are, and what it is."""

    kind: str
    folder: Path
    identity: GeneratorIdentity
    settings: ModelSettings
    requests_at_once: int = 0
    weights_bytes: int = 0
    """Of the files of its weights, where these are known."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether it runs behind an address, and nothing is computed here."""
        return self.kind == HTTP

    @property
    def is_small(self) -> bool:
        """Whether one core computes it best: several that share its products wait for one another longer than they compute."""
        return 0 < self.weights_bytes <= SMALL_BYTES

    @property
    def streams(self) -> bool:
        """Whether rows stream through it, on Ray: it is loaded there, and not here."""
        return self.identity.engine == VLLM

    def load(self, device: str, precision: str, kept: Location | None = None) -> AnyGenerator:
        """The model on ``device``; answers of one that is elsewhere lie in ``kept``. Raises UserError where it cannot be
        loaded."""
        if self.kind == HTTP:
            from clipmill.words.engines.http import HttpGenerator

            assert kept is not None
            name, address = self.identity.name, self.identity.pretrained
            return HttpGenerator(address, name, self.identity, kept, self.requests_at_once)
        if self.kind == COCA:
            return _load_coca(self, device, precision)
        return _load_transformers(self, device, precision)


def find_generator(settings: GeneratorSettings) -> FoundGenerator:
    """The model that the settings name, not loaded yet. Raises UserError for one that is not there or writes nothing."""
    if settings.engine == HTTP or settings.base_url is not None:
        return _find_http(settings)
    named = ModelSettings(model=settings.model, pretrained=settings.pretrained)
    if settings.engine == VLLM:
        return _find_vllm(settings, named)
    place = _builtin_place(settings) or find_place(named)
    if settings.engine not in ("auto", place.library):
        raise UserError(f"--engine {settings.engine} cannot run this model, which is one of {place.library}")
    if place.library == OPEN_CLIP:
        return _find_coca(named, place)
    if place.library != TRANSFORMERS:
        raise UserError(f"--model {place.name} is one of {place.library}, which makes vectors and writes nothing")
    return _find_transformers(named, place, TRANSFORMERS)


def _find_transformers(named: ModelSettings, place: Place, engine: str) -> FoundGenerator:
    require(TRANSFORMERS, f"--model {place.name}")
    folder = download(place, code=False)
    files = ModelFolder(place.name, folder)
    kind = _kind(files)
    identity = GeneratorIdentity(
        name=place.name,
        engine=engine,
        pretrained="" if place.name == BUILTIN_WRITER else pretrained_of(place, folder),
        **files.sha256(),
    )
    held = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return FoundGenerator(kind, folder, identity, named, weights_bytes=held)


def _find_vllm(settings: GeneratorSettings, named: ModelSettings) -> FoundGenerator:
    """A model of transformers that vLLM runs. Raises UserError where vLLM is not installed, and for other models."""
    if importlib.util.find_spec("vllm") is None:
        raise UserError(
            "--engine vllm needs the package vllm, which is not installed: pip install 'clipmill[vllm]', in an environment of "
            "its own, since it brings a torch of its own"
        )
    if _builtin_place(settings) is not None:
        raise UserError("--engine vllm needs --model: the built-in model is small, and runs without it")
    place = find_place(named)
    if place.library != TRANSFORMERS:
        raise UserError(
            "--engine vllm runs models of transformers, and this one is of another library: leave --engine out"
        )
    found = _find_transformers(named, place, VLLM)
    refuse_unasked(found.kind, place.name)
    return found


def _builtin_place(settings: GeneratorSettings) -> Place | None:
    """Of the built-in model, where the settings name it or none."""
    if settings.pretrained is not None or settings.model not in (None, BUILTIN_WRITER):
        _refuse_misspelled(settings.model)
        return None
    return Place(TRANSFORMERS, name=BUILTIN_WRITER, folder=BUILTIN_WRITER_FOLDER)


def _refuse_misspelled(model: str | None) -> None:
    """Raises UserError for what is no name of a place or of open_clip, and is most like that of the built-in model."""
    if model is None or ":" in model or Path(model).exists() or model in known_models():
        return
    if nearest(model, [BUILTIN_WRITER, *known_models()], most=1) == [BUILTIN_WRITER]:
        raise UserError(f"--model {model} is not known; did you mean {BUILTIN_WRITER}?")


def _find_http(settings: GeneratorSettings) -> FoundGenerator:
    """A model behind an address. Raises UserError where the address or the name is missing."""
    address = (settings.base_url or "").rstrip("/")
    if settings.engine not in ("auto", HTTP):
        raise UserError(f"--base-url is for --engine http; --engine {settings.engine} runs models of this machine")
    if not address.startswith(("http://", "https://")):
        raise UserError("--engine http needs --base-url with the address to ask, such as https://HOST/v1")
    if not settings.model:
        raise UserError("--engine http needs --model with the name that the address knows its model by")
    if "@" in address.split("/")[2]:
        raise UserError("--base-url holds a name or a key: put the key into CLIPMILL_API_KEY")
    if isinstance(settings, AskSettings) and settings.choices:
        raise UserError(
            "--choices needs probabilities of given answers, which no such address tells: leave it out, and name the answers "
            "in the question"
        )
    identity = GeneratorIdentity(
        name=settings.model, engine=HTTP, pretrained=address, weights_sha256=None, processor_sha256=None
    )
    return FoundGenerator(HTTP, Path(), identity, ModelSettings(), settings.requests_at_once)


def _kind(files: ModelFolder) -> str:
    """The type of the model. Raises UserError for one that does not write about pictures."""
    kind = str(files.configuration().get("model_type"))
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    if kind not in KNOWN:
        raise UserError(
            f"--model {files.name} is of the type {kind!r}, which does not take pictures and write words; BLIP, LLaVA, "
            "Qwen-VL, SmolVLM, PaliGemma, Florence-2 and others of transformers do"
        )
    return kind


def _find_coca(named: ModelSettings, place: Place) -> FoundGenerator:
    from clipmill.encoders.source import find_model

    if place.folder is not None:
        named = named.model_copy(update={"model": None, "pretrained": f"local-dir:{place.folder}"})
    source = find_model(named)
    if "multimodal_cfg" not in source.config:
        raise UserError(
            f"--model {source.name} has no decoder that writes captions; of open_clip the CoCa models have one (coca_ViT-B-32)"
        )
    assert source.weights is not None
    described = json.dumps([source.config, source.preprocess, source.merges], sort_keys=True)
    identity = GeneratorIdentity(
        name=source.name,
        engine=OPEN_CLIP,
        pretrained=source.pretrained,
        weights_sha256=files_sha256([source.weights]),
        processor_sha256=hashlib.sha256(described.encode()).hexdigest(),
    )
    held = source.weights.stat().st_size
    return FoundGenerator(COCA, source.weights.parent, identity, named, weights_bytes=held)


def _load_transformers(found: FoundGenerator, device: str, precision: str) -> TransformersGenerator:
    import torch

    from clipmill.words.engines.transformers import TransformersGenerator

    name = found.identity.name
    path = BUILTIN_WRITER_FOLDER if name == BUILTIN_WRITER else found.folder
    network, processor = folder_here(name, path, found.settings).load(
        "AutoModelForImageTextToText", bf16=precision == "bf16"
    )
    return TransformersGenerator(network.to(device), processor, found.identity, torch.device(device))


def _load_coca(found: FoundGenerator, device: str, precision: str) -> CocaGenerator:
    import torch

    from clipmill.encoders.model import build_network, load_weights, preprocessing_of
    from clipmill.encoders.source import find_model
    from clipmill.encoders.tokenizer import load_tokenizer
    from clipmill.words.engines.open_clip import CocaGenerator

    source = find_model(found.settings)
    network = build_network(source)
    load_weights(network, source)
    preprocessing = preprocessing_of(network, source)
    network = network.eval().requires_grad_(False).to(device)
    if precision == "bf16":
        network = network.to(torch.bfloat16)
    return CocaGenerator(network, preprocessing, load_tokenizer(source), found.identity, torch.device(device))
