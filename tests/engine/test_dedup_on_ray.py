"""`clipmill dedup` finds on Ray what it finds in one process."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill.curate import dedup as dedup_module
from clipmill_jobs import dedup as job
from planted import planted_embeddings, planted_vectors


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> str:
    return planted_embeddings(tmp_path_factory.mktemp("embeddings"), planted_vectors())


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


@pytest.mark.cluster
def test_clusters_on_ray_publish_what_they_publish_here(
    embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedup_module, "STRIP_ROWS", 1500)
    made = {}
    for place, options in (("ray", ["--address", "local", "--cpus", "1"]), ("here", [])):
        output = str(tmp_path / place)
        asked = [
            "--embeddings",
            embeddings,
            "--output",
            output,
            "--method",
            "clusters",
            "--linkage",
            "complete",
            "--json",
        ]
        result = CliRunner().invoke(job.command, [*options, *asked])
        assert result.exit_code == 0, result.output
        made[place] = json.loads(result.stdout)
    assert made["ray"]["hardware"] != made["here"]["hardware"]
    assert made["ray"]["shards_sha256"] == made["here"]["shards_sha256"]
    for key in ("pairs", "groups", "recall", "clusters", "least_cosine"):
        assert made["ray"][key] == made["here"][key]
