"""What comes up deep inside through a mistake in the input is told in a sentence, with the exit code of a mistake."""

import errno
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clipmill_jobs.__main__ import main
from clipmill_jobs.command import Job


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/data/closed"), "/data/closed: there is no permission"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_closed_folders_and_deep_nesting_are_sentences(error: Exception, said: str, as_json: bool) -> None:
    @click.command("try", cls=Job)
    def command() -> None:
        raise error

    done = CliRunner().invoke(command, ["--log-json"] if as_json else [])
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_full_disk_is_a_sentence_and_the_work_can_be_continued(number: int, as_json: bool) -> None:
    @click.command("try", cls=Job)
    def command() -> None:
        raise OSError(number, "whatever the system says", "/data/part")

    done = CliRunner().invoke(command, ["--log-json"] if as_json else [])
    assert done.exit_code == 1
    assert "/data/part" in done.stderr
    assert "make room, and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


def test_coco_that_is_nested_deeply_is_told(tmp_path: Path) -> None:
    place = tmp_path / "annotations/captions_val.json"
    place.parent.mkdir()
    place.write_text("[" * 200_000 + "]" * 200_000)
    done = CliRunner().invoke(main, ["import", "coco", str(tmp_path), "--output", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "captions_val.json is nested too deeply" in done.stderr
    assert json.loads("[[]]") == [[]]
