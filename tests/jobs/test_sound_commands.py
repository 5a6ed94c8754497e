"""The commands of docs/sound_and_video.md do what they say, with a small model in place of the one that is downloaded."""

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from clipmill_jobs.__main__ import main
from clips import tone, wav
from tiny_clips import tiny_clap

pytest.importorskip("soundfile")
PAGE = Path(__file__).parents[2] / "docs/sound_and_video.md"


def test_commands_of_the_page_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_clap(tmp_path / "clap")
    (tmp_path / "sounds").mkdir()
    for number in range(5):
        (tmp_path / f"sounds/{number}.wav").write_bytes(wav(tone(0.5, 200 + 300 * number)))
        (tmp_path / f"sounds/{number}.txt").write_text(f"tone {number}")
    (tmp_path / "bird.wav").write_bytes(wav(tone(0.5, 800)))
    commands = re.findall(r"^    clipmill (.+)$", PAGE.read_text(), re.MULTILINE)
    assert len(commands) == 10
    told = []
    for command in commands:
        words = shlex.split(command.replace("transformers:laion/clap-htsat-unfused", "clap"))
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        told.append(done.output)
        if words[0] == "sample":
            _write_row(tmp_path / "out/scenes", 3)
    assert "2.wav" in told[3]
    by_text, by_sound, by_picture = (output.splitlines() for output in told[-3:])
    assert "held-out-1-00000003" in "".join(by_text)
    assert "1.000" in next(line for line in by_sound if "held-out-1-00000003" in line)
    assert any("held-out-1-" in line for line in by_picture)


def _write_row(scenes: Path, row: int) -> None:
    """The sound and the picture of a row, as the page asks by them."""
    first = min(scenes.glob("*.parquet"))
    table = pq.read_table(first, columns=["image", "audio"]).slice(row, 1).to_pylist()[0]
    Path("sound.wav").write_bytes(table["audio"]["bytes"])
    Path("scene.png").write_bytes(table["image"]["bytes"])
