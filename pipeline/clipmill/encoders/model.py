"""One model, ready to encode: its network on a device, and its encoder, which says how items are prepared and encoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.manifests import ModelIdentity
from clipmill.core.settings import ModelSettings
from clipmill.encoders.adapters.loading import load
from clipmill.encoders.adapters.open_clip import build_network, identify, load_weights, preprocessing_of
from clipmill.encoders.batches import WHOLE, Batches, fastest_size
from clipmill.encoders.device import Device, Meter, device_of
from clipmill.encoders.names import BUILTIN_FOLDERS, builtin_of
from clipmill.encoders.precision import choose_precision
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.protocol import Encoder, Loaded, Preparation, SoundEncoder, VideoEncoder
from clipmill.encoders.tokens import TokenForm, TokenIds, Tokenizer, tokenise
from clipmill.encoders.weights import weights_sha256

__all__ = [
    "ClipModel",
    "Pending",
    "build_network",
    "choose_batch_size",
    "choose_device",
    "identify",
    "load_model",
    "load_model_of",
    "load_weights",
    "preprocessing_of",
    "weights_sha256",
]

_BATCH_SIZE = {"cpu": 32, "cuda": 256}
_GPU_STEP = 8
_WHOLE_TEXT = 128
"""Tokens of a text that takes the memory of a picture, where the context is longer."""


Pending = Callable[[], NDArray[np.float32]]
"""Waits for vectors that a device computes, and fetches them."""


def _do_nothing() -> None:
    pass


@dataclass(frozen=True)
class ClipModel:
    """A loaded model in evaluation mode on one device. ``on_batch`` is called after each batch, as a sign of life."""

    network: torch.nn.Module
    encoder: Encoder
    identity: ModelIdentity
    device: torch.device
    precision: str
    batch_size: int
    on_batch: Callable[[], object] = _do_nothing

    @property
    def preprocessing(self) -> Preparation:
        """How pictures are prepared. Raises UserError where the model encodes none."""
        if self.encoder.images is None:
            raise UserError(f"the model {self.identity.name} encodes no pictures")
        return self.encoder.images

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Texts to int64 (n, context length); loaded when the first caption needs it."""
        return self.encoder.load_tokenizer()

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
        return self.encoder.towers(self.network, self.precision, self.device)

    @cached_property
    def _place(self) -> Device:
        return device_of(self.device)

    @cached_property
    def _cut(self) -> bool:
        """Whether captions are encoded without their padding; tried on a few texts before the first caption."""
        with torch.inference_mode():
            return self.encoder.can_cut(self.network, self.token_form.batch(self.token_form.tried).to(self.device))

    def encode_images(
        self, pixels: NDArray[np.uint8] | torch.Tensor, meter: Meter | None = None
    ) -> NDArray[np.float32]:
        """Prepared pictures, uint8 (n, *shape), as unit vectors, float32 (n, d), batch by batch.

        ``meter`` takes how long the device computed.
        """
        return self.start_images(pixels, meter)()

    def start_images(self, pixels: NDArray[np.uint8] | torch.Tensor, meter: Meter | None = None) -> Pending:
        """As `encode_images`, without waiting for a GPU."""
        tensor = torch.as_tensor(pixels)

        def encode(batch: torch.Tensor) -> torch.Tensor:
            return self.encoder.image_features(self.towers, batch, self._type)

        return self._start(len(tensor), lambda part: tensor[part], encode, meter)

    def start_sounds(self, prepared: torch.Tensor, meter: Meter | None = None) -> Pending:
        """Prepared windows of sound, uint8 (n, size), as unit vectors, as `start_images`.

        Raises UserError where the model encodes none.
        """
        encoder = self.encoder
        if not isinstance(encoder, SoundEncoder):
            raise UserError(f"the model {self.identity.name} encodes no sounds")

        def encode(batch: torch.Tensor) -> torch.Tensor:
            return encoder.sound_features(self.towers, batch, self._type)

        return self._start(len(prepared), lambda part: prepared[part], encode, meter)

    def start_videos(self, prepared: torch.Tensor, meter: Meter | None = None) -> Pending:
        """Prepared videos, uint8 (n, *shape), as unit vectors, as `start_images`.

        Raises UserError where the model encodes none as wholes.
        """
        encoder = self.encoder
        if not isinstance(encoder, VideoEncoder):
            raise UserError(f"the model {self.identity.name} encodes no videos as wholes")

        def encode(batch: torch.Tensor) -> torch.Tensor:
            return encoder.video_features(self.towers, batch, self._type)

        costs = np.full(len(prepared), WHOLE * encoder.videos.count, np.int64)
        return self._start(len(prepared), lambda part: prepared[part], encode, meter, costs)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts as unit vectors, float32 (n, d). Longer texts are cut at the model's context length."""
        return self.encode_tokens(tokenise(self.tokenizer, texts) if texts else [])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `encode_texts`, with the prompt that the model was trained with for queries, if it was."""
        return self.encode_tokens(tokenise(self._query_tokenizer, texts) if texts else [])

    @cached_property
    def _query_tokenizer(self) -> Tokenizer:
        return self.encoder.load_tokenizer("query")

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
            return self.encoder.text_features(self.towers, tokens, cut=self._cut)

        costs = -(-widths * WHOLE // min(form.length, _WHOLE_TEXT)) if form else None
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
                features = encode(there)[:, : self.identity.dimension]
                vectors[part] = torch.nn.functional.normalize(features.to(torch.float32), dim=-1)
            self.on_batch()

        with torch.inference_mode():
            self.batches.run(count, work, costs)
        return lambda: np.asarray(vectors.cpu().numpy())

    def find_batch_size(self, most: int = 1024) -> None:
        """Chooses the batch size by encoding batches of blank pictures, from the one that it has up to ``most``."""
        batches = self.batches
        blank = self.preprocessing.prepare(torch.zeros((3, *self.preprocessing.size), dtype=torch.uint8))

        def seconds(size: int) -> float:
            batches.size = size
            pixels = blank.expand(size, *blank.shape)
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


def load_model(
    settings: ModelSettings, device: str | None = None, preprocessing: Preprocessing | None = None
) -> ClipModel:
    """The model that the settings name, on ``device`` (default: a GPU where there is one).

    On a CPU its precision is fp32 unless the settings name one: few pictures and texts are encoded in this process.

    ``preprocessing`` is given where it is known of a model of open_clip, and takes the place of what is published with the
    weights. Raises UserError for a model that is not there, whose package is missing, or that would have to execute code to
    load, and for more dimensions than it has.
    """
    made = cut_to(load(settings, preprocessing), settings.dimension)
    chosen = choose_device(device)
    return ClipModel(
        made.network.to(chosen),
        made.encoder,
        made.identity,
        chosen,
        "fp32"
        if settings.precision == "auto" and chosen.type == "cpu"
        else choose_precision(settings, chosen, made.network),
        choose_batch_size(settings, chosen),
    )


def cut_to(made: Loaded, dimension: int | None) -> Loaded:
    """The model with vectors of their first ``dimension`` components, as Matryoshka models are trained to be cut.

    Raises UserError where it has not so many.
    """
    has = made.identity.dimension
    if dimension is None or dimension == has:
        return made
    if dimension > has:
        raise UserError(f"--dimension {dimension}: the vectors of {made.identity.name} have {has} components")
    return replace(made, identity=made.identity.model_copy(update={"dimension": dimension}))


def choose_device(named: str | None) -> torch.device:
    """The device that is named, else a GPU where this process sees one, else the CPU."""
    return torch.device(named or ("cuda" if torch.cuda.is_available() else "cpu"))


def choose_batch_size(settings: ModelSettings, device: torch.device) -> int:
    """Images an encoder call."""
    return settings.batch_size or _BATCH_SIZE[device.type]


def load_model_of(
    identity: ModelIdentity, model: str | None, pretrained: str | None, made: str, *, trust_remote_code: bool = False
) -> ClipModel:
    """The model that made something (``made`` in words: "the index"), from where it is now.

    ``model`` and ``pretrained`` are given where that is not what the identity says. Raises UserError when there is no
    such model any more, and when another one is there.
    """
    place = pretrained or identity.pretrained or None
    is_builtin = identity.name in BUILTIN_FOLDERS and not place
    settings = ModelSettings(
        model=model or (builtin_of(identity.name, identity.weights_sha256) if is_builtin else identity.name),
        pretrained=place,
        dimension=identity.dimension,
        trust_remote_code=trust_remote_code or None,
    )
    known = None if "library" in identity.preprocessing else Preprocessing.from_open_clip(identity.preprocessing)
    try:
        loaded = load_model(settings, preprocessing=known)
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
