"""What is to be embedded and indexed, in counts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """``rows`` images of so many encoded bytes and pixels each, with so many captions per row on average."""

    rows: int
    captions_a_row: float
    image_bytes: int
    image_pixels: int

    @property
    def captions(self) -> int:
        return round(self.rows * self.captions_a_row)


@dataclass(frozen=True)
class ModelCost:
    """A model as far as its cost goes: ``image_size`` is (height, width) of what it is given, GFLOPs are 2 × multiply-adds
    of one image or one text at the full context length (None: not known)."""

    name: str
    dimension: int
    image_size: tuple[int, int]
    image_gflops: float | None
    text_gflops: float | None
    source: str
