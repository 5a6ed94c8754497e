"""Models of transformers whose other tower takes sounds: CLAP."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from clipmill.encoders.adapters.prepared import processor_file
from clipmill.encoders.adapters.text_tower import TextTower

if TYPE_CHECKING:
    import torch

    from clipmill.encoders.protocol import Modality

_FUSION = "fusion"


@dataclass(frozen=True)
class ExtractorPreparation:
    """A feature extractor of transformers. ``values`` are its settings as JSON, with its class; ``shape`` is that of the
    spectrograms which it makes, float32, that travel as their bytes.

    It is never given more than it hears at once, of which it would choose a part by chance.
    """

    values: str
    rate: int
    seconds: float
    shape: tuple[int, ...]

    @staticmethod
    def of(extractor: Any, kept: dict[str, Any]) -> ExtractorPreparation:
        """Of a loaded feature extractor. ``kept``: what its file says."""
        told = json.loads(extractor.to_json_string())
        values = {key: value for key, value in told.items() if key in kept and _decides(key)}
        values["feature_extractor_type"] = type(extractor).__name__
        text = json.dumps(values, sort_keys=True)
        rate = int(extractor.sampling_rate)
        found = _features(extractor, np.zeros(rate, np.float32), rate)
        return ExtractorPreparation(text, rate, extractor.nb_max_samples / rate, tuple(found.shape))

    @property
    def size(self) -> int:
        """Bytes of a spectrogram."""
        return 4 * int(np.prod(self.shape))

    def prepare(self, samples: NDArray[np.float32]) -> torch.Tensor:
        """Samples, float32 (n,), as uint8 (size,)."""
        import torch

        most = round(self.seconds * self.rate)
        given = samples[:most] if len(samples) else np.zeros(1, np.float32)
        made = _features(_extractor(self.values), given, self.rate)
        return torch.from_numpy(made.reshape(-1).view(np.uint8).copy())

    def inputs(self, prepared: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Spectrograms, uint8 (n, size), as a network takes them."""
        import torch

        spectrograms = prepared.contiguous().view(torch.float32).reshape(len(prepared), *self.shape).to(dtype)
        inputs: dict[str, torch.Tensor] = {"input_features": spectrograms}
        if json.loads(self.values).get("truncation", _FUSION) == _FUSION:
            # what its own extractor says of a clip that it is given alone, and of a batch by chance
            inputs["is_longer"] = torch.ones((len(prepared), 1), dtype=torch.bool, device=prepared.device)
        return inputs

    def as_dict(self) -> dict[str, Any]:
        """The extractor's settings and what it makes."""
        made = {"rate": self.rate, "seconds": self.seconds, "shape": list(self.shape)}
        return {"extractor": json.loads(self.values), **made}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ExtractorPreparation:
        """Of what `as_dict` has written."""
        text = json.dumps(values["extractor"], sort_keys=True)
        return ExtractorPreparation(text, values["rate"], values["seconds"], tuple(values["shape"]))


@dataclass(frozen=True)
class SoundTowers(TextTower):
    """A model of transformers with ``get_audio_features`` and ``get_text_features``."""

    method: ClassVar[str] = "get_audio_features"
    needs: ClassVar[str] = "feature extractor"
    sounds: ExtractorPreparation

    @staticmethod
    def prepared(library: Any, folder: Path, network: Any) -> tuple[ExtractorPreparation]:
        """What this adds to a text tower, as it lies in a folder."""
        extractor = library.AutoFeatureExtractor.from_pretrained(folder)
        told = dict(processor_file(folder))
        return (ExtractorPreparation.of(extractor, dict(told.get("feature_extractor", told))),)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Sounds and texts."""
        return ("audio", "text")

    @property
    def images(self) -> None:
        """It sees none."""
        return None

    def image_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """There is no tower for pictures. Raises TypeError."""
        raise TypeError("this model encodes no pictures")

    def sound_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Features (n, d) of spectrograms, uint8 (n, size)."""
        return self._pooled(network.get_audio_features(**self.sounds.inputs(prepared, dtype)))  # type: ignore[operator]

    def tried(self, network: torch.nn.Module) -> torch.Tensor:
        """Features of a second of silence."""
        import torch

        silence = self.sounds.prepare(np.zeros(self.sounds.rate, np.float32))
        return self.sound_features(network, silence[None], torch.float32)

    def as_dict(self) -> dict[str, Any]:
        """What decides the vector of a sound besides the weights."""
        return {"audio": self.sounds.as_dict(), "pooling": self.pooling}


def _decides(key: str) -> bool:
    return key not in ("feature_extractor_type", "processor_class")


@lru_cache(maxsize=8)
def _extractor(values: str) -> Any:
    made = json.loads(values)
    kind = made.pop("feature_extractor_type")
    return getattr(importlib.import_module("transformers"), kind)(**made)


def _features(extractor: Any, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    found = extractor(samples, sampling_rate=rate, return_tensors="np")["input_features"][0]
    return np.ascontiguousarray(found, np.float32)
