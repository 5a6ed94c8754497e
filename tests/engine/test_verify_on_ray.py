"""`clipmill verify` finds on Ray what it finds in one process, fault by fault."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from clipmill.core.settings import IndexSettings
from clipmill.index.build.build import make_build
from clipmill_jobs.verify import command
from clustered import image_and_caption_vectors, write_embeddings
from indexing import run_here


def found(*options: str) -> tuple[int, dict[str, object]]:
    result = CliRunner().invoke(command, [*options, "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verified")
    write_embeddings(folder / "embeddings", *image_and_caption_vectors(1200, 600, 16, 0), files=4)
    settings = IndexSettings(embeddings=str(folder / "embeddings"), output=str(folder / "index"), shards=3)
    run_here(make_build(settings))
    return folder


def damage(file: Path) -> None:
    data = np.fromfile(file, np.uint8)
    data[len(data) // 2] ^= 8
    data.tofile(file)


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["embeddings", "index"])
def test_tasks_find_what_threads_find(dataset: Path, tmp_path: Path, kind: str) -> None:
    ray = ("--address", "local", "--cpus", "2")
    here = found(str(dataset / kind))
    assert here[0] == 0
    assert found(str(dataset / kind), *ray) == here
    shutil.copytree(dataset / kind, tmp_path / kind)
    for file in sorted((tmp_path / kind).rglob("*part-00001.parquet" if kind == "embeddings" else "rows-0000[12].npy")):
        damage(file)
    damaged = found(str(tmp_path / kind))
    assert damaged[0] == 1
    assert len(damaged[1]["faults"]) >= 2
    assert found(str(tmp_path / kind), *ray) == damaged
