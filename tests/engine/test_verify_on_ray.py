"""`clipmill verify` finds on Ray what it finds in one process, fault by fault."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from clipmill_jobs.verify import command
from wholesome import write_whole_embeddings, write_whole_index


def found(*options: str) -> tuple[int, dict[str, object]]:
    result = CliRunner().invoke(command, [*options, "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verified")
    write_whole_index(write_whole_embeddings(folder), folder / "index")
    return folder


def damage(file: Path) -> None:
    data = np.fromfile(file, np.uint8)
    data[len(data) // 2] ^= 8
    data.tofile(file)


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["embeddings", "index"])
def test_tasks_find_what_threads_find(whole: Path, tmp_path: Path, kind: str) -> None:
    ray = ("--address", "local", "--cpus", "1")
    here = found(str(whole / kind))
    assert here[0] == 0
    assert found(str(whole / kind), *ray) == here
    shutil.copytree(whole / kind, tmp_path / kind)
    files = sorted((tmp_path / kind).rglob("part-*.parquet" if kind == "embeddings" else "rows-*.npy"))
    assert len(files) >= 2
    for file in files[:2]:
        damage(file)
    damaged = found(str(tmp_path / kind))
    assert damaged[0] == 1
    assert len(damaged[1]["faults"]) >= 2
    assert found(str(tmp_path / kind), *ray) == damaged
