"""A window of sound as a picture of its spectrogram, for models whose image tower hears too."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError

if TYPE_CHECKING:
    import torch

_LEAST_POWER = 1e-10


@dataclass(frozen=True)
class Spectrogram:
    """Power in ``side`` bands, evenly apart in mel from ``lowest`` to ``highest`` Hz, at ``side`` times of ``seconds``, in
    decibels: ``floor`` and less is black, that of a sine of full scale white. High bands are at the top, what comes first at
    the left; a shorter sound is followed by silence. Each column is of ``width`` samples at ``rate`` a second, under a Hann
    window.
    """

    side: int
    rate: int = 16_000
    seconds: float = 2.0
    width: int = 1024
    lowest: float = 80.0
    highest: float = 7_600.0
    floor: float = -70.0

    @property
    def size(self) -> int:
        """Bytes of a picture, which has one channel."""
        return self.side * self.side

    def prepare(self, samples: NDArray[np.float32]) -> torch.Tensor:
        """Samples of one channel, float32 (n,), as uint8 (side · side,)."""
        import torch

        return torch.from_numpy(self.picture(samples).reshape(-1).copy())

    def picture(self, samples: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Samples of one channel, float32 (n,), as uint8 (side, side)."""
        most = round(self.seconds * self.rate)
        heard = np.zeros(most + self.width, np.float64)
        given = samples[:most]
        heard[self.width // 2 : self.width // 2 + len(given)] = given
        starts = np.linspace(0, most, self.side, endpoint=False).astype(np.int64)
        frames = np.lib.stride_tricks.sliding_window_view(heard, self.width)[starts]
        window = np.hanning(self.width)
        power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 / (window.sum() / 2) ** 2
        decibels = 10 * np.log10(power @ _bands(self).T + _LEAST_POWER)
        shade = np.clip((decibels - self.floor) / -self.floor, 0, 1)
        return np.ascontiguousarray(np.round(shade.T[::-1] * 255).astype(np.uint8))

    def pictures(self, prepared: torch.Tensor) -> torch.Tensor:
        """What `prepare` made, uint8 (n, side · side), as grey pictures, uint8 (n, 3, side, side)."""
        return prepared.reshape(-1, 1, self.side, self.side).expand(-1, 3, -1, -1)

    def as_dict(self) -> dict[str, Any]:
        """All settings."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Spectrogram:
        """Of what `as_dict` has written. Raises UserError for other settings, such as of a later version."""
        known = {field.name for field in fields(Spectrogram)}
        if not isinstance(values, dict) or "side" not in values or not values.keys() <= known:
            raise UserError(
                f"the model's configuration has `sounds` that this clipmill does not know: {values}; it knows "
                f"{', '.join(sorted(known))}, and needs side"
            )
        return Spectrogram(**values)


@lru_cache(maxsize=4)
def _bands(spectrogram: Spectrogram) -> NDArray[np.float64]:
    """Triangles over the frequencies of a transform, float64 (side, width / 2 + 1), each of height one. A band that is
    narrower than the frequencies are apart takes the nearest of them."""
    first, last = (2595 * math.log10(1 + hertz / 700) for hertz in (spectrogram.lowest, spectrogram.highest))
    edges = 700 * (10 ** (np.linspace(first, last, spectrogram.side + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(spectrogram.width, 1 / spectrogram.rate)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bands: NDArray[np.float64] = np.minimum(
        (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    ).clip(0)
    bands[np.arange(len(bands)), np.abs(frequencies - middle).argmin(axis=1)] = 1
    return bands
