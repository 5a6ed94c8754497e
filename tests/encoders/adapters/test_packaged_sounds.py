"""A package of one's own that hears is used like any other model of sounds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, ModelSettings
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.encoders import library
from clipmill.encoders.adapters import entry_points
from clipmill.encoders.model import load_model
from clipmill.encoders.packaged import PackagedModel
from clipmill.encoders.protocol import Clips
from clipmill.encoders.shipping import ship, unship
from clipmill.runs.stages import embed_stage
from clips import tone, wav

pytest.importorskip("soundfile")
BANDS = 4


@dataclass(frozen=True)
class Loudness:
    """How loud each quarter of the spectrum of a second is."""

    rate: int = 8000
    seconds: float = 1.0
    size: int = 4 * BANDS

    def prepare(self, samples: np.ndarray) -> torch.Tensor:
        spectrum = np.abs(np.fft.rfft(samples, self.rate))[: self.rate // 2]
        bands = spectrum.reshape(BANDS, -1).sum(axis=1).astype(np.float32)
        return torch.from_numpy(bands.view(np.uint8))

    def as_dict(self) -> dict[str, Any]:
        return {"bands": BANDS, "rate": self.rate}


class Ear(torch.nn.Module):
    """The weights are of no effect."""

    def __init__(self, repeats: int) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(BANDS * repeats))

    def encode_audio(self, prepared: torch.Tensor) -> torch.Tensor:
        bands = prepared.contiguous().view(torch.float32)
        return bands.repeat(1, len(self.gain) // BANDS) * self.gain

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(tokens, BANDS + 1).sum(dim=1)[:, :BANDS].float() + 1e-3


class Numbers:
    """Texts as the numbers in them, filled up with the number of bands."""

    def __call__(self, texts: list[str], length: int = 6) -> torch.Tensor:
        found = [[int(word) for word in text.split() if word.isdigit()] for text in texts]
        return torch.tensor([(ids + [BANDS] * length)[:length] for ids in found])


def ear(argument: str | None) -> PackagedModel:
    return PackagedModel(Ear(int(argument or 1)), tokenizer=Numbers(), sounds=Loudness())


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        value = "ear:load"

        def load(self) -> Any:
            return ear

    for module in (library, entry_points):
        monkeypatch.setattr(module, "entry_points", lambda: {"ear": Point()})


def expected(samples: np.ndarray) -> np.ndarray:
    spectrum = np.abs(np.fft.rfft(samples[:8000], 8000))[:4000]
    bands = np.array([spectrum[1000 * at : 1000 * (at + 1)].sum() for at in range(BANDS)])
    return bands / np.linalg.norm(bands)


@pytest.mark.usefixtures("installed")
def test_its_sounds_are_embedded_beside_its_texts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    sounds = [tone(1.0, pitch, 8000) for pitch in (500, 1500, 3500)]
    for number, samples in enumerate(sounds):
        (tmp_path / f"in/{number}.wav").write_bytes(wav(samples, 8000))
        (tmp_path / f"in/{number}.txt").write_text(f"band {number}")
    settings = EmbedSettings(input=str(tmp_path / "in"), output=str(tmp_path / "out"), model="ear")
    manifest = embed_stage(settings, ClusterSettings(cpus=1, device="cpu"), Silent()).manifest
    assert manifest.model is not None
    assert manifest.model.preprocessing["modalities"] == ["text", "audio"]
    table = Embeddings.open(str(tmp_path / "out")).table("audio", ["embedding"])
    found = vectors_of(table.column("embedding")).astype(np.float64)
    np.testing.assert_allclose(found, np.stack([expected(samples) for samples in sounds]), atol=2e-3)


@pytest.mark.usefixtures("installed")
def test_it_travels_and_is_refused_where_its_vectors_differ_in_length() -> None:
    model = load_model(ModelSettings(model="ear"), device="cpu")
    preparation = Clips.of(model.encoder).sounds
    assert preparation is not None
    prepared = torch.stack([preparation.prepare(tone(1.0, pitch, 8000)) for pitch in (500, 3500)])
    arrived = unship(ship(model), ModelSettings(precision="fp32"))
    np.testing.assert_array_equal(arrived.start_sounds(prepared)(), model.start_sounds(prepared)())
    with pytest.raises(UserError, match=r"makes vectors of the shapes \(1, 4\) and \(1, 8\)"):
        load_model(ModelSettings(model="ear:2"), device="cpu")
