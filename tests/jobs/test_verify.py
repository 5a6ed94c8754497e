"""The verify command: what it prints, and its exit codes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clipmill_jobs.verify import command
from wholesome import flip_bit, write_whole_embeddings


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    return write_whole_embeddings(tmp_path)


def test_whole_is_exit_code_0_and_a_count_of_what_was_looked_at(embeddings: Path) -> None:
    done = run(embeddings)
    assert done.exit_code == 0
    assert f"{embeddings}: whole (11 files, 325 images, 396 captions, 18 rejected, 721 vectors" in done.stdout
    assert "verify: 100%" in done.stderr


def test_not_whole_is_exit_code_1_and_names_the_file(embeddings: Path) -> None:
    flip_bit(embeddings / "images/part-00001.parquet")
    done = run(embeddings)
    assert done.exit_code == 1
    assert "fault: images/part-00001.parquet was altered" in done.stdout
    assert "NOT WHOLE" in done.stdout
    assert "is not whole: 1 faults" in done.stderr


def test_quick_says_what_was_not_checked(embeddings: Path) -> None:
    done = run(embeddings, "--quick")
    assert done.exit_code == 0
    assert "not checked: the bytes of the shards" in done.stdout


def test_json_is_one_document_also_when_the_manifest_is_damaged(embeddings: Path) -> None:
    (embeddings / "manifest.json").write_text("{")
    done = run(embeddings, "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["whole"] is False
    assert "manifest.json is damaged" in document["faults"][0]


def test_no_dataset_is_exit_code_2(tmp_path: Path) -> None:
    done = run(tmp_path / "absent")
    assert done.exit_code == 2
    assert "there is no such folder" in done.stderr
    assert "Traceback" not in done.output
