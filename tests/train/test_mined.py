"""Negatives from an index are the nearest captions of other images that are not nearly as right as the own one."""

import json
from pathlib import Path

import numpy as np
import pytest

from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, IndexSettings, SampleSettings, TrainSettings
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.runs.stages import embed_stage, index_stage, train_stage
from clipmill.scenes.dataset import write_scenes
from clipmill.source.inputs import find_inputs
from clipmill.source.units import Span, Unit
from clipmill.train.mined import NEGATIVES, mine

ROWS = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, their embeddings, and an index of their captions."""
    folder = tmp_path_factory.mktemp("mined")
    write_scenes(SampleSettings(output=str(folder / "scenes"), rows=ROWS, image_size=64), Silent())
    cluster = ClusterSettings(device="cpu")
    embed_stage(EmbedSettings(input=str(folder / "scenes"), output=str(folder / "vectors")), cluster, Silent())
    for gallery in ("captions", "images"):
        index_stage(
            IndexSettings(embeddings=str(folder / "vectors"), output=str(folder / gallery), gallery=gallery),
            cluster,
            Silent(),
        )
    return folder


def expected(place: Path) -> list[list[str]]:
    """Every image with every caption, by the definition."""
    embeddings = Embeddings.open(str(place / "vectors"))
    images = embeddings.table("images", ["row", "embedding"])
    captions = embeddings.table("captions", ["row", "caption", "embedding"])
    scores = (
        vectors_of(images.column("embedding").combine_chunks()).astype(np.float64)
        @ vectors_of(captions.column("embedding").combine_chunks()).astype(np.float64).T
    )
    owners, texts = captions.column("row").to_pylist(), captions.column("caption").to_pylist()
    found = []
    for row, line in zip(images.column("row").to_pylist(), scores, strict=True):
        own = [at for at, owner in enumerate(owners) if owner == row]
        bar, said = 0.95 * max(line[own]), {texts[at] for at in own}
        nearest = [
            at for at in np.argsort(-line)[:32] if owners[at] != row and line[at] < bar and texts[at] not in said
        ]
        found.append(list(dict.fromkeys(texts[at] for at in nearest))[:NEGATIVES])
    return found


def test_negatives_are_those_of_the_definition(place: Path) -> None:
    mined = mine(str(place / "captions"), find_inputs(str(place / "scenes")))
    found = mined.of(Unit(0, (Span(0, 0, ROWS),)))
    same = [one == other for one, other in zip(found, expected(place), strict=True)]
    assert np.mean(same) > 0.9  # float16 decides ties otherwise
    assert sum(map(len, found)) > ROWS


def test_a_part_of_a_unit_gets_its_own_rows(place: Path) -> None:
    mined = mine(str(place / "captions"), find_inputs(str(place / "scenes")))
    whole = mined.of(Unit(0, (Span(0, 0, ROWS),)))
    assert mined.of(Unit(3, (Span(0, 7, 9), Span(0, 20, 23)))) == [*whole[7:9], *whole[20:23]]


def settings(place: Path, output: Path, index: str, **options: object) -> TrainSettings:
    values = {"input": str(place / "scenes"), "steps": 2, "batch_size": 16, "hard_negatives": str(place / index)}
    return TrainSettings(output=str(output), **{**values, **options})


def test_training_takes_them_in_place_of_the_column(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmill.train import towers

    seen: list[str] = []
    plain = towers.step_backward

    def watched(learner, made, step, batch, *rest):  # type: ignore[no-untyped-def]
        seen.extend(batch.negatives)
        return plain(learner, made, step, batch, *rest)

    monkeypatch.setattr(towers, "step_backward", watched)
    train_stage(settings(place, tmp_path / "model", "captions"), ClusterSettings(device="cpu"), Silent())
    of_others = {text for texts in expected(place) for text in texts}
    assert len(seen) > 16
    assert np.mean([text in of_others for text in seen]) > 0.9


def test_an_index_of_images_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"an index of images, and negatives are captions: .*--gallery captions"):
        train_stage(settings(place, tmp_path / "model", "images"), ClusterSettings(device="cpu"), Silent())


def test_an_index_over_other_pictures_is_refused(place: Path, tmp_path: Path) -> None:
    write_scenes(SampleSettings(output=str(tmp_path / "others"), rows=20, image_size=64, seed=5), Silent())
    made = settings(place, tmp_path / "model", "captions", input=str(tmp_path / "others"))
    with pytest.raises(UserError, match=r"its embeddings were not made from .*others.* embed --input again"):
        train_stage(made, ClusterSettings(device="cpu"), Silent())
    assert not (tmp_path / "model").exists()


def test_what_was_mined_is_not_mined_again(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmill.train import data, towers

    def fails(*given: object) -> None:
        raise KeyboardInterrupt

    made = settings(place, tmp_path / "model", "captions")
    with monkeypatch.context() as patched:
        patched.setattr(towers, "step_backward", fails)
        with pytest.raises(KeyboardInterrupt):
            train_stage(made, ClusterSettings(device="cpu"), Silent())
    monkeypatch.setattr(data, "mine", fails)
    train_stage(made, ClusterSettings(device="cpu"), Silent())
    assert json.loads((tmp_path / "model/training.json").read_text())["steps_done"] == 2
