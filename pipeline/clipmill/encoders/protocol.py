"""What an encoder is to the rest of clipmill: an item becomes a vector. Adapters of other libraries implement it.

An encoder is the small part of a model: it travels to every worker and says how items are prepared and how the network is
called. The weights are apart from it, in the network that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from clipmill.core.manifests import ModelIdentity
    from clipmill.encoders.tokens import Tokenizer

Modality = Literal["image", "text", "audio", "video"]
Role = Literal["document", "query"]
"""What a text is: one that is found, or one that is searched with. Some models are trained with a prompt for each."""

IMAGE_AND_TEXT: tuple[Modality, ...] = ("image", "text")


class Preparation(Protocol):
    """What becomes of a decoded picture before it is encoded: pure, without weights, done on workers without a model.

    ``size`` is the (height, width) of what the model sees, ``shape`` that of a prepared picture, whose values are uint8.
    """

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """A picture, uint8 (3, height, width) of any size, as uint8 ``shape``."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """What decides the result, in JSON types: it becomes part of the model's identity."""
        ...


class Encoder(Protocol):
    """How one model is used. It is pickled, and so is what it gives."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What the model encodes."""
        ...

    @property
    def images(self) -> Preparation | None:
        """How pictures are prepared; None where the model encodes none."""
        ...

    def load_tokenizer(self, role: Role = "document") -> Tokenizer:
        """What makes token ids of texts. Raises UserError when it is not to be had."""
        ...

    def image_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Prepared pictures, uint8 (n, *shape), as features (n, d) of any length, computed in ``dtype``."""
        ...

    def text_features(self, network: torch.nn.Module, tokens: torch.Tensor, *, cut: bool) -> torch.Tensor:
        """Token ids, int64 (n, length), as features (n, d). ``cut``: padding at the ends may have been left out."""
        ...

    def can_cut(self, network: torch.nn.Module, tokens: torch.Tensor) -> bool:
        """Whether features are the same without the padding at the ends; ``tokens`` (n, context length) are to try it on."""
        ...

    def towers(self, network: torch.nn.Module, precision: str, device: torch.device) -> torch.nn.Module:
        """The network at a precision (fp32, bf16, int8); ``network`` itself, float32, where nothing has to change."""
        ...


class SoundPreparation(Protocol):
    """What becomes of a window of sound before it is encoded: pure, without weights, done on workers without a model.

    ``rate`` is the samples a second that the model hears, ``seconds`` what it hears at once, ``size`` the bytes that are made.
    """

    @property
    def rate(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def size(self) -> int: ...

    def prepare(self, samples: NDArray[np.float32]) -> torch.Tensor:
        """Samples of one channel, float32 (n,), at most ``seconds`` of them, as uint8 (size,)."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """What decides the result, in JSON types: it becomes part of the model's identity."""
        ...


@dataclass(frozen=True)
class VideoPreparation:
    """What becomes of a video before a model of videos encodes it: ``count`` pictures, each prepared as ``pictures`` says."""

    pictures: Preparation
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a prepared video."""
        return (self.count, *self.pictures.shape)


@runtime_checkable
class SoundEncoder(Protocol):
    """An `Encoder` that encodes sounds too."""

    @property
    def sounds(self) -> SoundPreparation:
        """How they are prepared."""
        ...

    def sound_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Prepared windows of sound, uint8 (n, size), as features (n, d), computed in ``dtype``."""
        ...


@runtime_checkable
class VideoEncoder(Protocol):
    """An `Encoder` that encodes videos as wholes, where others take the mean of single pictures."""

    @property
    def videos(self) -> VideoPreparation:
        """How they are prepared."""
        ...

    def video_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Prepared videos, uint8 (n, *shape), as features (n, d), computed in ``dtype``."""
        ...


@dataclass(frozen=True)
class Clips:
    """How a model's sounds and videos are prepared. ``pictures`` are prepared one by one where it knows no videos: then a video
    is the mean of some of its pictures, as CLIP4Clip's variant without parameters has it."""

    sounds: SoundPreparation | None = None
    videos: VideoPreparation | None = None
    pictures: Preparation | None = None

    @staticmethod
    def of(encoder: Encoder) -> Clips:
        """As an encoder has it."""
        return Clips(
            encoder.sounds if isinstance(encoder, SoundEncoder) else None,
            encoder.videos if isinstance(encoder, VideoEncoder) else None,
            encoder.images,
        )


@dataclass(frozen=True)
class Loaded:
    """A model as an adapter reads it: the network in evaluation mode, float32 on the CPU, how it is used, and what it is."""

    network: torch.nn.Module
    encoder: Encoder
    identity: ModelIdentity


class WithoutPictures:
    """The preparation of a model that encodes no pictures, where a plan asks for one: units are cut as for tiny ones."""

    size = (1, 1)
    shape: tuple[int, ...] = (1,)

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """There is nothing to prepare a picture for. Raises TypeError."""
        raise TypeError("this model encodes no pictures")

    def as_dict(self) -> dict[str, Any]:
        """Nothing decides it."""
        return {}


def modalities_of(preprocessing: dict[str, Any]) -> Sequence[str]:
    """What a model encodes, by the ``preprocessing`` of its identity."""
    named: Sequence[str] = preprocessing.get("modalities", IMAGE_AND_TEXT)
    return named
