"""Workers are as many as were asked for, else one per GPU, and share the cores of a cluster without GPUs."""

from pathlib import Path

import pytest

from clipmill.core.errors import UserError
from clipmill.core.settings import TrainSettings
from clipmill.engine.cluster import Cluster
from clipmill.engine.train_on_ray import Notes, TrainingPool, _reachable, training_pool


def settings(**options: object) -> TrainSettings:
    return TrainSettings.model_validate({"input": "in", "output": "out", **options})


def cluster(cpus: float, gpus: tuple[float, ...] = (), nodes: int = 1, *, own: bool = False) -> Cluster:
    return Cluster(cpus, nodes, cpus / nodes, gpus, own)


@pytest.mark.parametrize(
    ("options", "there", "device", "expected"),
    [
        ({}, cluster(8), "cpu", TrainingPool(1, 1, 8, 0)),
        ({"workers": 2}, cluster(8), "cpu", TrainingPool(2, 2, 4, 0)),
        ({"workers": "2:4"}, cluster(8, nodes=2), "cpu", TrainingPool(2, 4, 2, 0)),
        ({"workers": 3}, cluster(8), "cpu", TrainingPool(3, 3, 2, 0)),
        ({"workers": 1}, cluster(16, nodes=2), "cpu", TrainingPool(1, 1, 8, 0)),
        ({"workers": 4}, cluster(2), "cpu", TrainingPool(4, 4, 0.5, 0)),
        ({}, cluster(32, (4, 4), 2), "gpu", TrainingPool(8, 8, 1, 1)),
        ({"gpus_per_worker": 0.5}, cluster(32, (4,)), "gpu", TrainingPool(8, 8, 1, 0.5)),
        ({"workers": "2:16"}, cluster(32, (4, 4), 2), "gpu", TrainingPool(2, 16, 1, 1)),
        ({}, cluster(4), "gpu", TrainingPool(1, 1, 1, 1)),
    ],
)
def test_the_pool_follows_from_what_was_asked_for_and_what_is_there(
    options: dict[str, object], there: Cluster, device: str, expected: TrainingPool
) -> None:
    assert training_pool(settings(**options), there, device) == expected


def test_more_gpus_than_this_machine_has_are_refused() -> None:
    with pytest.raises(UserError, match="--workers 3: this machine has 2 GPUs"):
        training_pool(settings(workers=3), cluster(8, (2,), own=True), "gpu")


def test_notes_are_handed_over_once_and_the_first_failure_stays() -> None:
    notes = Notes()
    notes.add("step", 1)
    notes.add("validation", 2, "found")
    assert notes.take() == [("step", (1,)), ("validation", (2, "found"))]
    assert notes.take() == []
    assert notes.failure() is None
    notes.fail(UserError("first"))
    notes.fail(UserError("second"))
    assert str(notes.failure()) == "first"


def test_workers_are_given_absolute_places_and_names_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patterns, prefixed folders and files of templates too; tags and remote places are no local paths."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start").mkdir()
    (tmp_path / "prompts.txt").write_text("a {}")
    local = settings(
        input="data/*.parquet", validation="held-out", pretrained="local-dir:start", templates="prompts.txt"
    )
    found = _reachable(local)
    assert found.input == str(tmp_path / "data/*.parquet")
    assert found.validation == str(tmp_path / "held-out")
    assert found.pretrained == str(tmp_path / "start")
    assert found.templates == str(tmp_path / "prompts.txt")
    remote = settings(input="s3://bucket/data", model="ViT-B-32", pretrained="openai")
    assert _reachable(remote) == remote
