"""From a folder to the first search, and the mistakes on the way: each is one sentence that ends in what to type."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from clipmill_jobs.__main__ import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with pictures, and with what is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(tmp_path / f"photos/{number}.jpg")
    for name in ("empty", "iphone", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "iphone/a.heic").touch()
    (tmp_path / "broken/a.jpg").write_text("no picture")
    (tmp_path / "photos.zip").touch()
    (tmp_path / "nightly.yaml").write_text("output: out\nembed:\n  input: photos\n")
    return tmp_path


def typed(line: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, shlex.split(line)[1:], prog_name="clipmill")
    return done.exit_code, done.stdout, done.stderr


def test_two_commands_from_a_folder_to_a_search(place: Path) -> None:
    code, out, err = typed("clipmill run photos/")
    assert code == 0, err
    explore, search = out.splitlines()[-2:]
    assert explore == "clipmill explore photos.clipmill"
    code, found, err = typed(search)
    assert code == 0, err
    assert {line.split()[2] for line in found.splitlines()[1:]} == {f"{number}.jpg" for number in range(4)}
    _, out, _ = typed("clipmill run photos/")
    assert "unchanged" in out
    assert out.splitlines()[-2:] == [explore, search]


MISTAKES = [
    ("clipmill run", "type: clipmill run photos/"),
    ("clipmill run phtos/", "Type: clipmill run photos"),
    ("clipmill photos/", "type: clipmill run photos/"),
    ("clipmill rnu photos/", "did you mean run?"),
    ("clipmill run empty/", "type: clipmill run empty/"),
    ("clipmill run iphone/", "-format jpg {place}/iphone/*.heic; put that right, and type: clipmill run iphone/"),
    ("clipmill run photos/1.jpg", "type: clipmill run photos/"),
    ("clipmill run photos/0.jpg photos/1.jpg photos/2.jpg", "type: clipmill run photos/"),
    ("clipmill run photos.zip", "type: unzip photos.zip -d photos && clipmill run photos/"),
    ("clipmill run https://example.org/photos/", "type: clipmill run FOLDER/"),
    ("clipmill run photos/ --output photos/found", "type: clipmill run photos/ --output photos.clipmill"),
    ("clipmill run photos/ --output photos.zip", "type: clipmill run photos/ --output ~/photos.clipmill"),
    ("clipmill run photos/ --save-config nightly.yaml", "type: clipmill run nightly.yaml"),
    ("clipmill run nightly.yaml --model ViT-B-32", "type: clipmill run nightly.yaml"),
    ("clipmill run photos/ --model ViT-B32", "type: --model ViT-B-32"),
    ("clipmill run photos/ --model ViT-B-32", "type: clipmill models ViT-B-32"),
    ("clipmill run photos/ --model ViT-B-32 --pretrained absent.pt", "type: clipmill models ViT-B-32"),
    ("clipmill run photos/ --pretrained openai", "type: --model ViT-B-32 --pretrained openai"),
    ("clipmill search photos.clipmill dog", 'type: clipmill search --index photos.clipmill --text "dog"'),
    (
        "clipmill search --index photos.clipmill",
        'type: clipmill search --index photos.clipmill --text "a dog on a beach"',
    ),
    ("clipmill search --index photos/ --text dog", "type: clipmill run {place}/photos"),
    ("clipmill explore photos/", "type: clipmill run {place}/photos"),
    ("clipmill explore", "type it behind the command: photos.clipmill"),
]


@pytest.mark.parametrize(("line", "end"), MISTAKES)
def test_a_mistake_is_one_sentence_that_ends_in_what_to_type(place: Path, line: str, end: str) -> None:
    there = sorted(place.rglob("*"))
    code, _, err = typed(line)
    assert code == 2, err
    assert err.rstrip().endswith(end.format(place=place))
    told = [one for one in err.splitlines() if not one.startswith(("Usage:", "Try "))]
    assert len([one for one in told if one]) == 1, "one line"
    assert sorted(place.rglob("*")) == there, "nothing was made"


def test_of_what_was_made_already_the_place_is_named(place: Path) -> None:
    typed("clipmill run photos/")
    for line in ("clipmill explore photos/", "clipmill search --index photos --text dog"):
        code, _, err = typed(line)
        assert code == 2
        assert err.rstrip().endswith(f"type this in its place: {place}/photos.clipmill")
    code, _, err = typed("clipmill run photos.clipmill")
    assert (code, err.rstrip().endswith("type: clipmill explore photos.clipmill")) == (2, True)


def test_a_folder_of_which_nothing_can_be_read_says_why(place: Path) -> None:
    code, _, err = typed("clipmill run broken/")
    assert code == 2
    assert "rejected were: not_an_image 1 (each with its reason in" in err


def test_pictures_of_a_kind_that_is_not_read_are_told_beside_those_that_are(place: Path) -> None:
    (place / "photos/a.HEIC").touch()
    code, _, err = typed("clipmill run photos/")
    assert code == 0, err
    told = "photos: 1 picture cannot be read (.HEIC); make JPEGs first, with ImageMagick: mogrify -format jpg"
    assert f"{told} {place}/photos/*.HEIC" in err
