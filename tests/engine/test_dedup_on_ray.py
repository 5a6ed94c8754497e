"""`clipmill dedup` finds on Ray what it finds in one process."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from clipmill.curate import dedup as dedup_module
from clipmill_jobs import dedup as job
from clustered import image_and_caption_vectors, unit, write_embeddings

N, DIMENSION = 3000, 128
PLANTED = {0.995: (5, 2900), 0.97: (700, 701), 0.96: (701, 1500)}


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    images = unit(rng.standard_normal((N, DIMENSION)))
    for cosine, (original, copy) in PLANTED.items():
        aside = rng.standard_normal(DIMENSION)
        aside = unit(aside - (aside @ images[original]) * images[original])
        images[copy] = cosine * images[original] + np.sqrt(1 - cosine**2) * aside
    return images.astype(np.float16)


@pytest.fixture(scope="module")
def embeddings(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    captions = image_and_caption_vectors(N, 500, DIMENSION, seed=1)[1]
    captions[400] = captions[7]
    labels = [f"label {row}" for row in range(N)]
    return str(write_embeddings(tmp_path_factory.mktemp("embeddings"), vectors, captions, labels=labels))


@pytest.mark.cluster
def test_the_command_compares_on_ray_and_says_what_it_found(
    embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedup_module, "STRIP_ROWS", 1500)
    options = ["--embeddings", embeddings, "--output", str(tmp_path / "duplicates"), "--threshold", "0.95", "--json"]
    options = ["--address", "local", "--cpus", "1", *options]
    result = CliRunner().invoke(job.command, options)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["pairs"], document["groups"], document["already_complete"]) == (3, 2, False)
    again = CliRunner().invoke(job.command, options[:-1])
    assert "is already complete" in again.stdout
    assert "3 pairs of 3,000 images have a cosine of 0.95 or more" in again.stdout
