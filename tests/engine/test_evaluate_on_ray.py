"""`clipmill evaluate` finds on Ray what it finds in one process."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from captioned import identity, pairs, write_captioned
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EvaluateSettings
from clipmill.evaluation.retrieval import piece
from clipmill.runs.stages import evaluate_stage
from clipmill_jobs import evaluate as job


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> str:
    images, captions, rows = pairs(300, 2, noise=2.0)
    return write_captioned(
        tmp_path_factory.mktemp("embeddings") / "e", images, captions, rows, model=identity(16), paths=["s3://b/one"]
    )


@pytest.mark.cluster
def test_the_command_ranks_a_sample_on_ray_and_finds_what_one_process_finds(
    embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PIECE_QUERIES", 40), ("PIECE_PRODUCTS", 1), ("GALLERY_BLOCK", 120)):
        monkeypatch.setattr(piece, name, value)
    values: dict[str, Any] = {"embeddings": embeddings, "query_sample": 100, "bootstrap_samples": 20}
    here = evaluate_stage(
        EvaluateSettings(output=str(tmp_path / "here"), **values), Silent(), cluster=ClusterSettings()
    ).manifest
    options = ["--address", "local", "--cpus", "2", "--output", str(tmp_path / "ray"), "--json"]
    options += [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    result = CliRunner().invoke(job.command, options)
    assert result.exit_code == 0, result.output
    on_ray = json.loads(result.stdout)
    assert on_ray["retrieval"] == [part.model_dump(mode="json") for part in here.retrieval]
    assert on_ray["retrieval"][0]["sampled"]["of"] == 600
    again = CliRunner().invoke(job.command, [option for option in options if option != "--json"])
    assert "is already complete" in again.stdout
    assert "100 of 600 queries were drawn (seed 0)" in again.stdout
