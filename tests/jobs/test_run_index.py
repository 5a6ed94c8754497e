"""The index of a run's next version: when it keeps the training of the one before, and when it is trained again."""

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from clipmill.core.manifests import Counts, IndexManifest
from clipmill.core.reporter import Reporter, Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, GateSettings, IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.build import Build
from clipmill.runs import version_stages
from clipmill.runs.run_file import RunFile
from clipmill.runs.stages import build_stage
from clipmill.runs.version_stages import VersionStages
from clipmill.stage.stage import Made
from clipmill.verification.index import verify_index
from clipmill.versions.base import Base
from clipmill.versions.gates import recall_of
from clipmill.versions.place import Place
from clipmill.versions.version import Training, Version
from clustered import image_and_caption_vectors, write_embeddings
from wholesome import identity

FACTORY = "IVF2,PQ2x4fsr"
"""So coarse that among many vectors the true ones are not in the 128 that are looked at again; among 120 they are."""


@dataclass
class Nights:
    """Versions 1, 2, … of one place, each of these image vectors."""

    folder: Path
    captions: np.ndarray

    def stages(self, name: str, images: np.ndarray, base: Base | None) -> VersionStages:
        place = Place.of(str(self.folder))
        if not (self.folder / "runs" / name).exists():
            write_embeddings(self.folder / "runs" / name / "embeddings", images, self.captions, identity=identity())
        settings = {"factory": FACTORY, "tuning_queries": 100, "k": 1, "target_recall": 0.9}
        index = IndexSettings.model_validate({"embeddings": "-", "output": "-", **settings})
        embed = EmbedSettings.model_validate({"input": "-", "output": "-"})
        run = RunFile(str(self.folder), embed, index, None, ClusterSettings(), GateSettings())
        return VersionStages(run, place, place.version(name), base, frozenset(), Silent(), lambda stage, result: None)

    def published(self, name: str, images: np.ndarray) -> Base:
        """A version with its index, as what the next grows from."""
        stages = self.stages(name, images, None)
        _, training, _ = stages.index(same_vectors=False)
        version = Version(
            name=name,
            made=datetime.now(timezone.utc),
            base=None,
            key="",
            manifests={},
            counts=Counts(),
            rows_encoded=0,
            rows_reused=0,
            removed=0,
            ordinals=1,
            training=training,
            notes=[],
            bars=[],
        )
        return Base(stages.place, version, Embeddings.open((stages.folder / "embeddings").uri))

    def next(self, base: Base, images: np.ndarray) -> tuple[IndexManifest, Training, list[str]]:
        stages = self.stages("2", images, base)
        manifest, training, notes = stages.index(same_vectors=True)
        assert manifest is not None
        assert training is not None
        assert training.sha256 == manifest.trained_sha256
        index = str(self.folder / "runs/2/index")
        found = verify_index(index, quick=False, reporter=Silent())
        assert found.faults == []
        return manifest, training, notes


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    return image_and_caption_vectors(3000, 300, 16, seed=0)


@pytest.fixture
def nights(tmp_path: Path, vectors: tuple[np.ndarray, np.ndarray]) -> Nights:
    return Nights(tmp_path, vectors[1])


def test_alike_vectors_keep_the_training(nights: Nights, vectors: tuple[np.ndarray, np.ndarray]) -> None:
    base = nights.published("1", vectors[0][:120])
    manifest, training, notes = nights.next(base, vectors[0][:126])
    assert notes[0].startswith("the index keeps its training: it reconstructs vectors")
    assert notes[-1].endswith("on 6 captions of new rows")
    assert training == base.version.training
    assert (manifest.stage_seconds["train"], manifest.target_met) == (0, True)


def test_after_drift_the_index_is_trained_again(nights: Nights, vectors: tuple[np.ndarray, np.ndarray]) -> None:
    base = nights.published("1", vectors[0][:120])
    others = image_and_caption_vectors(120, 10, 16, seed=99)[0]
    manifest, training, notes = nights.next(base, np.concatenate([vectors[0][:120], others]))
    before = base.version.training
    assert before is not None
    assert len(notes) == 1
    assert notes[0].startswith("the index is trained: it reconstructs vectors")
    assert manifest.stage_seconds["train"] > 0
    assert training.sha256 != before.sha256
    assert training.error is not None
    assert training.error != before.error, "drift is told from here on"


@pytest.mark.parametrize("killed", [False, True])
def test_after_a_fallen_recall_the_index_is_trained_again(
    nights: Nights, vectors: tuple[np.ndarray, np.ndarray], killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors are alike, but too many for such coarse codes: the old training misses the target that it reached."""
    base = nights.published("1", vectors[0][:120])
    assert base.met_target
    if killed:
        with monkeypatch.context() as patch:
            patch.setattr(version_stages, "build_stage", killed_when_training_again)
            with pytest.raises(KeyboardInterrupt):
                nights.next(base, vectors[0])
    old = base.version.training
    manifest, training, notes = nights.next(base, vectors[0])
    assert len(notes) == 1
    assert notes[0].startswith("the index is trained: with the old training its recall fell to 0.")
    assert manifest.stage_seconds["train"] > 0
    assert old is not None
    assert training.sha256 != old.sha256
    assert recall_of(manifest) > float(notes[0].rsplit(" ", 1)[-1]), "codes of many vectors suit them better"


def killed_when_training_again(build: Build, cluster: ClusterSettings, reporter: Reporter) -> Made[IndexManifest]:
    """Builds the index that keeps the old training, and is killed when it is to be trained anew."""
    if build.settings.overwrite:
        raise KeyboardInterrupt
    return build_stage(build, cluster, reporter)


def test_a_recall_that_was_missed_before_is_no_reason_to_train(
    nights: Nights, vectors: tuple[np.ndarray, np.ndarray]
) -> None:
    base = nights.published("1", vectors[0][:2900])
    assert not base.met_target
    manifest, training, _ = nights.next(base, vectors[0])
    assert not manifest.target_met
    assert training == base.version.training
