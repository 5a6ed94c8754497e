"""Night after night over a folder of sounds: only new ones are encoded, and what is taken down leaves with its captions."""

from pathlib import Path

import numpy as np
import pytest

import clipmill
from clipmill.datasets.manifests import Embeddings
from clips import tone, wav
from tiny_clips import tiny_clap

pytest.importorskip("soundfile")
RUN = """
output: out
embed:
  input: sounds
  model: clap
index:
  gallery: audio
  tuning_queries: 3
evaluate:
  bootstrap_samples: 10
gates:
  max_row_loss: null
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_clap(tmp_path / "clap")
    (tmp_path / "sounds").mkdir()
    for number in range(6):
        (tmp_path / f"sounds/{number}.wav").write_bytes(wav(tone(0.6, 200 + 150 * number)))
        (tmp_path / f"sounds/{number}.txt").write_text(f"tone {number}")
    (tmp_path / "sounds/silent.wav").write_bytes(wav(np.zeros(4000, np.float32)))
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path / "sounds"


def night(folder: Path) -> tuple[Embeddings, dict[str, int], dict[int, str]]:
    """The embeddings after a run, the row of each sound, and the captions by row."""
    version = clipmill.run(folder.parent / "run.yaml")
    embeddings = Embeddings.open(str(folder.parent / "out/runs" / version.name / "embeddings"))
    sounds, captions = embeddings.table("audio", ["id", "row"]), embeddings.table("captions", ["row", "caption"])
    rows = dict(zip(sounds.column("id").to_pylist(), sounds.column("row").to_pylist(), strict=True))
    return embeddings, rows, dict(zip(*(captions.column(name).to_pylist() for name in ("row", "caption")), strict=True))


def test_versions_of_sounds_keep_what_stays_and_lose_what_is_taken_down(folder: Path) -> None:
    first, rows, captions = night(folder)
    assert first.manifest.counts.clips["audio"].model_dump() == {"embedded": 6, "rejected": 1, "without_column": 0}
    assert sorted(captions.values()) == [f"tone {number}" for number in range(6)]

    (folder / "2.wav").unlink()
    (folder / "new.wav").write_bytes(wav(tone(0.6, 3000)))
    second, later, _ = night(folder)
    assert second.manifest.runs[-1].rows_encoded == 1
    assert set(later) == set(rows) - {"2.wav"} | {"new.wav"}
    assert {name: later[name] for name in rows if name != "2.wav"} == {
        name: row for name, row in rows.items() if name != "2.wav"
    }

    clipmill_remove(folder.parent / "out", "--content", str(folder / "4.wav"))
    third, last, captions = night(folder)
    assert set(last) == set(later) - {"4.wav"}
    assert "tone 4" not in captions.values()
    assert third.manifest.counts.rejected_by_reason == {"removed": 2, "silent_audio": 1}
    newest = third.location
    assert [found.faults for found in clipmill.verify(newest.path)] == [[]]
    assert (third.manifest.schema_version, third.manifest.counts.captions) == (3, 4)


def clipmill_remove(place: Path, *arguments: str) -> None:
    from click.testing import CliRunner

    from clipmill_jobs.remove import command

    done = CliRunner().invoke(command, [str(place), *arguments])
    assert done.exit_code == 0, done.output
