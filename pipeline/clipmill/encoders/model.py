"""One CLIP model, ready to encode: its two towers, its tokenizer, its preprocessing and its identity."""

import hashlib
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.factory import load_checkpoint

from clipmill.core.compiler import bring_timm
from clipmill.core.errors import UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.core.settings import ModelSettings
from clipmill.encoders.batches import WHOLE, Batches, fastest_size
from clipmill.encoders.device import Device, Meter, device_of
from clipmill.encoders.precision import at_precision, choose_precision
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.source import ModelSource, find_model, quiet
from clipmill.encoders.text import agrees_when_cut, encode_tokens
from clipmill.encoders.tokenizer import describe_tokenizer, load_tokenizer
from clipmill.encoders.tokens import TokenForm, TokenIds, Tokenizer, tokenise

_BATCH_SIZE = {"cpu": 32, "cuda": 256}
_GPU_STEP = 8


Pending = Callable[[], NDArray[np.float32]]
"""Waits for vectors that a device computes, and fetches them."""


def _do_nothing() -> None:
    pass


@dataclass(frozen=True)
class ClipModel:
    """A loaded model in evaluation mode on one device. ``on_batch`` is called after each batch, as a sign of life."""

    network: torch.nn.Module
    source: ModelSource
    preprocessing: Preprocessing
    identity: ModelIdentity
    device: torch.device
    precision: str
    batch_size: int
    on_batch: Callable[[], object] = _do_nothing

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Texts to int64 (n, context length); loaded when the first caption needs it."""
        return load_tokenizer(self.source)

    @cached_property
    def batches(self) -> Batches:
        """The batches of both towers, smaller than ``batch_size`` once the device has run out of memory."""
        return Batches(self.batch_size)

    @property
    def device_name(self) -> str:
        """The kind of GPU as its driver calls it; empty on a CPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""

    @cached_property
    def token_form(self) -> TokenForm:
        """How token ids are laid out for the text tower."""
        return TokenForm.of(self.tokenizer)

    @cached_property
    def towers(self) -> torch.nn.Module:
        """The network at the precision that vectors are computed with; ``network`` itself stays float32."""
        towers = at_precision(self.network, self.precision)
        if self.device.type == "cuda" and _is_convolutional(self.network):
            towers.get_submodule("visual").to(memory_format=torch.channels_last)
        return towers

    @cached_property
    def _place(self) -> Device:
        return device_of(self.device)

    @cached_property
    def _cut(self) -> bool:
        """Whether captions are encoded without their padding; tried on a few texts before the first caption."""
        with torch.inference_mode():
            return agrees_when_cut(self.network, self.token_form.batch(self.token_form.tried).to(self.device))

    def encode_images(
        self, pixels: NDArray[np.uint8] | torch.Tensor, meter: Meter | None = None
    ) -> NDArray[np.float32]:
        """Prepared pictures, uint8 (n, 3, height, width), as unit vectors, float32 (n, d), batch by batch.

        ``meter`` takes how long the device computed.
        """
        return self.start_images(pixels, meter)()

    def start_images(self, pixels: NDArray[np.uint8] | torch.Tensor, meter: Meter | None = None) -> Pending:
        """As `encode_images`, without waiting for a GPU."""
        tensor = torch.as_tensor(pixels)

        def encode(batch: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.towers.encode_image(  # type: ignore[operator]
                self.preprocessing.normalise(batch).to(self._type), normalize=False
            )
            return features

        return self._start(len(tensor), lambda part: tensor[part], encode, meter)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts as unit vectors, float32 (n, d). Longer texts are cut at the model's context length."""
        return self.encode_tokens(tokenise(self.tokenizer, texts) if texts else [])

    def encode_tokens(self, texts: Sequence[TokenIds], meter: Meter | None = None) -> NDArray[np.float32]:
        """Texts as `tokenise` made them, as unit vectors, float32 (n, d): each different text once, batches of similar
        length together.

        ``meter`` takes how long the device computed.
        """
        return self.start_tokens(texts, meter)()

    def start_tokens(self, texts: Sequence[TokenIds], meter: Meter | None = None) -> Pending:
        """As `encode_tokens`, without waiting for a GPU."""
        place: dict[bytes, int] = {}
        places = [place.setdefault(ids.tobytes(), len(place)) for ids in texts]
        unique = list(dict(zip(places, texts, strict=True)).values())
        lengths = np.fromiter(map(len, unique), np.int64, len(unique))
        order = np.argsort(lengths, kind="stable")
        form = self.token_form if unique else None
        widths = self._widths(lengths[order])

        def batch(part: slice) -> torch.Tensor:
            assert form is not None
            return form.batch([unique[at] for at in order[part]], int(widths[part.stop - 1]))

        def encode(tokens: torch.Tensor) -> torch.Tensor:
            return encode_tokens(self.towers, tokens, cut=self._cut)

        costs = -(-widths * WHOLE // form.length) if form else None
        fetch = self._start(len(unique), batch, encode, meter, costs)
        back = np.empty(len(unique), np.int64)
        back[order] = np.arange(len(unique))
        return lambda: fetch()[back[places]]

    def _widths(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions that a batch takes whose longest text has such a length: the context length unless padding is cut.

        On a GPU they are multiples of eight, so that there are few shapes to choose the fastest way for.
        """
        if not len(lengths) or not self._cut:
            return np.full_like(lengths, self.token_form.length if len(lengths) else 0)
        step = _GPU_STEP if self.device.type == "cuda" else 1
        widths: NDArray[np.int64] = np.minimum(-(-np.maximum(lengths, 1) // step) * step, self.token_form.length)
        return widths

    def _start(
        self,
        count: int,
        batch: Callable[[slice], torch.Tensor],
        encode: Callable[[torch.Tensor], torch.Tensor],
        meter: Meter | None,
        costs: NDArray[np.int64] | None = None,
    ) -> Pending:
        """What ``encode`` makes of each ``batch`` on the device, as unit vectors. They stay there until they are asked for,
        so that a GPU goes from one batch to the next without waiting for this process."""
        vectors = torch.empty((count, self.identity.dimension), dtype=torch.float32, device=self.device)
        timed = Meter() if meter is None else meter

        def work(part: slice) -> None:
            there = self._place.moved(batch(part))
            with self._place.computing(timed):
                vectors[part] = torch.nn.functional.normalize(encode(there).to(torch.float32), dim=-1)
            self.on_batch()

        with torch.inference_mode():
            self.batches.run(count, work, costs)
        return lambda: np.asarray(vectors.cpu().numpy())

    def find_batch_size(self, most: int = 1024) -> None:
        """Chooses the batch size by encoding batches of blank pictures, from the one that it has up to ``most``."""
        batches = self.batches

        def seconds(size: int) -> float:
            batches.size = size
            pixels = torch.zeros((size, 3, *self.preprocessing.size), dtype=torch.uint8)
            self.encode_images(pixels)  # the first of a size also chooses how to compute it
            began = time.perf_counter()
            self.encode_images(pixels)
            if batches.size < size:
                raise torch.OutOfMemoryError(f"{size} pictures do not fit")
            return time.perf_counter() - began

        batches.size = fastest_size(seconds, batches.size, most)

    @property
    def _type(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def _is_convolutional(network: torch.nn.Module) -> bool:
    """Whether pictures go through more convolutions than the one that cuts them into patches."""
    layers = (type(layer) is torch.nn.Conv2d for layer in network.get_submodule("visual").modules())
    return sum(layers) > 1


def load_model(
    settings: ModelSettings, device: str | None = None, preprocessing: Preprocessing | None = None
) -> ClipModel:
    """The model that the settings name, on ``device`` (default: a GPU where there is one).

    On a CPU its precision is fp32 unless the settings name one: few pictures and texts are encoded in this process.

    ``preprocessing`` is given where it is known, and takes the place of what is published with the weights. Raises
    UserError for a model, tag or file that is not there, a checkpoint of another architecture, and a checkpoint that
    would have to execute code to load.
    """
    source = find_model(settings, preprocess=preprocessing.as_dict() if preprocessing else None)
    chosen = choose_device(device)
    network = build_network(source)
    load_weights(network, source)
    network.eval().requires_grad_(False)
    if preprocessing is None:
        preprocessing = preprocessing_of(network, source)
    identity = identify(network, source, preprocessing)
    return ClipModel(
        network.to(chosen),
        source,
        preprocessing,
        identity,
        chosen,
        "fp32"
        if settings.precision == "auto" and chosen.type == "cpu"
        else choose_precision(settings, chosen, network),
        choose_batch_size(settings, chosen),
    )


def choose_device(named: str | None) -> torch.device:
    """The device that is named, else a GPU where this process sees one, else the CPU."""
    return torch.device(named or ("cuda" if torch.cuda.is_available() else "cpu"))


def choose_batch_size(settings: ModelSettings, device: torch.device) -> int:
    """Images an encoder call."""
    return settings.batch_size or _BATCH_SIZE[device.type]


def load_model_of(identity: ModelIdentity, model: str | None, pretrained: str | None, made: str) -> ClipModel:
    """The model that made something (``made`` in words: "the index"), from where it is now.

    ``model`` and ``pretrained`` are given where that is not what the identity says. Raises UserError when there is no
    such model any more, and when another one is there.
    """
    settings = ModelSettings(model=model or identity.name, pretrained=pretrained or identity.pretrained or None)
    try:
        loaded = load_model(settings, preprocessing=Preprocessing.from_open_clip(identity.preprocessing))
    except UserError as error:
        if pretrained:
            raise
        raise UserError(f"{error}; if the weights that made {made} have moved, say where with --pretrained") from None
    differences = identity.differences(loaded.identity)
    if differences:
        raise UserError(
            f"this model did not make {made}, so its vectors mean nothing there ({made} and this model): "
            + "; ".join(differences)
        )
    return loaded


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
        raise UserError(f"--model {source.name}: a part of it could not be downloaded: {_first_line(error)}") from None
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
        raise UserError(f"{source.weights} cannot be read as a checkpoint: {_first_line(error)}") from None


def _mismatch(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:2] or lines or [type(error).__name__])[:300]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


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
        preprocessing=preprocessing.as_dict(),
        tokenizer=tokenizer,
        tokenizer_sha256=tokenizer_sha256,
        dimension=int(source.config["embed_dim"]),
        logit_scale=float(network.logit_scale.exp()),  # type: ignore[operator]
        logit_bias=_logit_bias(network),
    )


def _logit_bias(network: torch.nn.Module) -> float | None:
    bias = getattr(network, "logit_bias", None)
    return None if bias is None else float(bias)


def weights_sha256(network: torch.nn.Module) -> str:
    """sha256 over names, shapes and float32 values of all weights: the same for one model in any kind of file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
        digest.update(memoryview(tensor.contiguous().view(-1).numpy()).cast("B") if tensor.numel() else b"")
    return digest.hexdigest()
