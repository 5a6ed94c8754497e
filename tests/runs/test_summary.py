"""However a run ends, its summary is written and its hook is told, and neither changes how it ended."""

import json
import time
from pathlib import Path

import pytest

from clipmill import storage
from clipmill.core.errors import BarMissed, RunFailed, Terminated, UserError
from clipmill.runs.summary import exit_code_of, read_summary, recorded


def test_a_run_that_ends_well_has_its_stages_in_order(tmp_path: Path) -> None:
    output = storage.resolve(tmp_path / "out")
    with recorded(output, command="run", configuration="n.yaml", hook=None) as record:
        with record.stage("embed") as stage:
            stage.note(output="out/embeddings", images=12)
            time.sleep(0.02)
        with record.stage("index") as stage:
            stage.note(recall=0.97)
        record.note(version="v1")
    document = json.loads((tmp_path / "out/summary.json").read_text())
    assert (document["status"], document["exit_code"], document["error"]) == ("success", 0, None)
    assert [(stage["name"], stage["status"]) for stage in document["stages"]] == [
        ("embed", "success"),
        ("index", "success"),
    ]
    assert document["stages"][0]["figures"] == {"images": 12}
    assert document["stages"][0]["output"] == "out/embeddings"
    assert document["stages"][0]["seconds"] >= 0.02
    assert document["figures"] == {"version": "v1"}
    summary = read_summary(output)
    assert summary is not None
    assert summary.finished >= summary.started


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BarMissed("recall is .8"), 3, "recall is .8"),
        (RunFailed("no room"), 1, "no room"),
        (UserError("no such file"), 2, "no such file"),
        (Terminated(), 143, "terminated"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("a bug"), 1, "ValueError: a bug"),
    ],
)
def test_a_run_that_fails_passes_its_error_on_and_tells_the_hook(
    tmp_path: Path, error: BaseException, code: int, said: str
) -> None:
    told = tmp_path / "told"
    hook = f'echo "$CLIPMILL_STATUS $CLIPMILL_EXIT_CODE $CLIPMILL_OUTPUT" > {told}; cat "$CLIPMILL_SUMMARY" >> {told}'
    output = storage.resolve(tmp_path / "out")
    with (
        pytest.raises(type(error)) as raised,
        recorded(output, command="run", configuration="n.yaml", hook=hook) as record,
        record.stage("embed"),
    ):
        raise error
    assert raised.value is error
    first, _, rest = told.read_text().partition("\n")
    assert first == f"failure {code} {output.uri}"
    document = json.loads(rest)
    assert (document["status"], document["exit_code"], document["error"]) == ("failure", code, said)
    assert document["stages"][0]["status"] == "failure"
    assert exit_code_of(error) == code


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("exit 7", "failed with exit code 7"),
        ("no-such-command-of-anybody", "failed with exit code 127"),
        ("sleep 30 & sleep 30", "did not end within 0.3 s"),
    ],
)
def test_a_hook_that_fails_or_hangs_is_told_and_changes_nothing(
    tmp_path: Path, hook: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    with recorded(
        storage.resolve(tmp_path / "out"), command="run", configuration="", hook=hook, hook_seconds=0.3
    ) as record:
        record.note(rows=1)
    assert time.monotonic() - started < 20
    assert said in caplog.text
    assert json.loads((tmp_path / "out/summary.json").read_text())["status"] == "success"


def test_a_summary_that_cannot_be_written_still_reaches_the_hook(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").write_text("a file")
    told = tmp_path / "told"
    hook = f'cat "$CLIPMILL_SUMMARY" > {told}'
    with recorded(storage.resolve(tmp_path / "out"), command="run", configuration="", hook=hook):
        pass
    assert json.loads(told.read_text())["status"] == "success"
    assert "could not be written" in caplog.text


def test_what_is_not_a_summary_is_none(tmp_path: Path) -> None:
    assert read_summary(storage.resolve(tmp_path)) is None
    (tmp_path / "summary.json").write_text('{"status": "odd"}')
    assert read_summary(storage.resolve(tmp_path)) is None
