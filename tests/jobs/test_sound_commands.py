"""The commands of docs/sound_and_video.md do what they say, with a small model in place of the one that is downloaded."""

import re
import shlex
from pathlib import Path

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
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command.replace("transformers:laion/clap-htsat-unfused", "clap"))
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    assert "2.wav" in done.output
