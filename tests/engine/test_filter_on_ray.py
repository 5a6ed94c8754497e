"""`clipmill filter` keeps on Ray what it keeps in one process."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill.curate import filter as filter_module
from clipmill_jobs.filter import command
from planted import planted_embeddings, planted_vectors


@pytest.mark.cluster
def test_strips_filtered_by_tasks_make_the_files_that_one_process_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_module, "STRIP_ROWS", 800)
    embeddings = planted_embeddings(tmp_path, planted_vectors())
    made = {}
    for place, options in (("ray", ["--address", "local", "--cpus", "1"]), ("here", [])):
        asked = ["--embeddings", embeddings, "--output", str(tmp_path / place), "--where", "row % 7 < 3", "--json"]
        result = CliRunner().invoke(command, [*options, *asked])
        assert result.exit_code == 0, result.output
        made[place] = json.loads(result.stdout)
    assert made["ray"]["hardware"] != made["here"]["hardware"]
    assert made["ray"]["shards_sha256"] == made["here"]["shards_sha256"]
    assert made["ray"]["kept"] == sum(row % 7 < 3 for row in range(made["ray"]["rows"]))
    assert len(list((tmp_path / "ray/kept").iterdir())) == 4
