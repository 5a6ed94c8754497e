"""Models of transformers whose other tower takes videos as wholes: X-CLIP.

X-CLIP turns texts a little towards each video that it compares them with; in an index they stand for themselves, as its
``get_text_features`` gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from clipmill.encoders.adapters.normalisation import Normalisation
from clipmill.encoders.adapters.prepared import ProcessorPreparation, processor_file
from clipmill.encoders.adapters.text_tower import TextTower
from clipmill.encoders.protocol import VideoPreparation

if TYPE_CHECKING:
    import torch

    from clipmill.encoders.protocol import Modality


@dataclass(frozen=True)
class VideoTowers(TextTower):
    """A model of transformers with ``get_video_features`` and ``get_text_features``."""

    method: ClassVar[str] = "get_video_features"
    needs: ClassVar[str] = "image processor"
    pictures: ProcessorPreparation
    normalisation: Normalisation
    count: int

    @staticmethod
    def prepared(library: Any, folder: Path, network: Any) -> tuple[ProcessorPreparation, Normalisation, int]:
        """What this adds to a text tower, as it lies in a folder."""
        processor = library.AutoImageProcessor.from_pretrained(folder)
        pictures = ProcessorPreparation.of(processor, processor_file(folder))
        return pictures, Normalisation.of(pictures), int(network.config.vision_config.num_frames)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Videos and texts."""
        return ("video", "text")

    @property
    def images(self) -> None:
        """It sees no single ones."""
        return None

    @property
    def videos(self) -> VideoPreparation:
        """So many pictures, each as the processor makes it."""
        return VideoPreparation(self.pictures, self.count)

    def image_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """There is no tower for single pictures. Raises TypeError."""
        raise TypeError("this model encodes no pictures, but videos")

    def video_features(self, network: torch.nn.Module, prepared: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Features (n, d) of videos, uint8 (n, count, *shape of a picture)."""
        flat = prepared.reshape(-1, *self.pictures.shape)
        pixels = self.normalisation.inputs(self.pictures, flat)["pixel_values"].to(dtype)
        videos = pixels.reshape(len(prepared), self.count, *pixels.shape[1:])
        return self._pooled(network.get_video_features(pixel_values=videos))  # type: ignore[operator]

    def tried(self, network: torch.nn.Module) -> torch.Tensor:
        """Features of a video of black pictures."""
        import torch

        black = self.pictures.prepare(torch.zeros((3, *self.pictures.size), dtype=torch.uint8))
        return self.video_features(network, black.expand(1, self.count, *black.shape), torch.float32)

    def as_dict(self) -> dict[str, Any]:
        """What decides the vector of a video besides the weights."""
        return {"video": {"count": self.count, **self.pictures.as_dict()}, "pooling": self.pooling}
