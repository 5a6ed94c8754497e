"""`clipmill models fetch` against a hub on loopback: proved by hashes, told what is interrupted or absent."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill.core.errors import UserError
from clipmill.encoders.fetch import fetch_model
from clipmill_jobs.__main__ import main
from loopback_hub import Hub, loopback_hub
from tiny_models import tiny_model

WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with one tiny model."""
    tiny_model("clip", tmp_path / "hub/org/tiny")
    with loopback_hub(tmp_path / "hub") as made:
        yield made


def fetched(hub: Hub, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own: the hub's client reads its address once."""
    return subprocess.run(
        [sys.executable, "-m", "clipmill_jobs", "models", "fetch", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        },
        check=False,
    )


def test_what_was_fetched_is_used_without_a_network(hub: Hub, tmp_path: Path) -> None:
    done = fetched(hub, tmp_path / "cache", "transformers:org/tiny")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("to use them: --model transformers:org/tiny")
    code = (
        "from clipmill.core.settings import ModelSettings; from clipmill.encoders.model import load_model; "
        "print(load_model(ModelSettings(model='transformers:org/tiny')).encode_texts(['a cat']).shape)"
    )
    away = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=away, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("(1, ")


def test_a_folder_to_carry_holds_the_whole_model(hub: Hub, tmp_path: Path) -> None:
    done = fetched(hub, tmp_path / "cache", "transformers:org/tiny", "--output", str(tmp_path / "carried"))
    assert done.returncode == 0, done.stderr
    there = {one.name: one.read_bytes() for one in (tmp_path / "hub/org/tiny").iterdir()}
    assert {one.name: one.read_bytes() for one in (tmp_path / "carried").iterdir()} == there
    assert done.stdout.rstrip().endswith(f"--model transformers:{tmp_path / 'carried'}")
    again = fetched(hub, tmp_path / "cache", "transformers:org/tiny", "--output", str(tmp_path / "carried"))
    assert again.returncode == 2
    assert "is there already, and is not replaced" in again.stderr


def test_an_interrupted_download_is_tried_further_and_the_next_start_keeps_what_is_whole(
    hub: Hub, tmp_path: Path
) -> None:
    (hub.root / "org/tiny/large.safetensors").write_bytes(bytes(24_000_000))
    hub.cut["large.safetensors"] = 18_000_000
    done = fetched(hub, tmp_path / "cache", "transformers:org/tiny")
    assert done.returncode == 1
    assert "was interrupted" in done.stderr
    assert done.stderr.rstrip().endswith("type the same command again; files that are here are not fetched again")
    assert "Traceback" not in done.stderr

    ranges = [range_ for name, range_ in hub.asked if name == "large.safetensors"]
    assert ranges[0] == ""
    assert all(0 < int(one.removeprefix("bytes=").rstrip("-")) <= 18_000_000 for one in ranges[1:]), (
        "from where it stopped"
    )
    assert len(ranges) > 1

    hub.cut.clear()
    hub.asked.clear()
    done = fetched(hub, tmp_path / "cache", "transformers:org/tiny")
    assert done.returncode == 0, done.stderr
    assert "config.json" not in {name for name, _ in hub.asked}
    assert (hub.root / "org/tiny/large.safetensors").read_bytes() in {
        one.read_bytes() for one in (tmp_path / "cache").rglob("large.safetensors")
    }


def test_a_file_of_another_hash_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.wrong.add(WEIGHTS)
    done = fetched(hub, tmp_path / "cache", "transformers:org/tiny")
    assert done.returncode == 1
    assert f"org/tiny/{WEIGHTS} came with another hash than the hub says" in done.stderr
    kept = [one for one in (tmp_path / "cache").rglob("*") if one.is_file() and one.stat().st_size > 50_000]
    assert kept == []

    hub.wrong.clear()
    assert fetched(hub, tmp_path / "cache", "transformers:org/tiny").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            ["transformers:org/absent"],
            2,
            "there is no model org/absent on the hub, or no such revision; type: clipmill models",
        ),
        (["ViT-B32"], 2, "type: --model ViT-B-32"),
        (["builtin"], 2, "comes with clipmill; leave --model out to use it"),
    ],
)
def test_what_is_not_to_be_had_is_told(hub: Hub, tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    done = fetched(hub, tmp_path / "cache", *arguments)
    assert done.returncode == code
    assert done.stderr.rstrip().endswith(told)
    assert "Traceback" not in done.stderr


def test_a_hub_that_cannot_be_reached_is_told_with_the_way_around(hub: Hub, tmp_path: Path) -> None:
    hub.address = "http://127.0.0.1:9"
    done = fetched(hub, tmp_path / "cache", "transformers:org/tiny")
    assert done.returncode == 2, done.stderr
    assert "the hub cannot be reached; on a machine that reaches it, type: clipmill models fetch" in done.stderr


@pytest.mark.parametrize("model", ["builtin-sound", "builtin-1"])
def test_what_comes_with_clipmill_is_not_fetched(model: str) -> None:
    shown = CliRunner().invoke(main, ["models", model])
    assert (shown.exit_code, f"type: --model {model}" in shown.output) == (2, True)
    with pytest.raises(UserError, match=f"{model} comes with clipmill; type: --model {model}"):
        fetch_model(model, None, None, print)
