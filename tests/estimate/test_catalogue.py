"""Models that are listed: with published figures as they stand in the file, and the choice that nothing beats."""

import csv
from pathlib import Path

import pytest

import clipmill
from clipmill.core.errors import UserError
from clipmill.estimate.catalogue import known_weights, weights_of, worth_taking

FILE = Path(clipmill.__file__).parent / "encoders/published_clip.csv"
ROWS = list(csv.DictReader(line for line in FILE.read_text().splitlines() if not line.startswith("#")))


def test_published_figures_are_those_of_the_file() -> None:
    known = {(one.model, one.pretrained): one for one in known_weights()}
    listed = [row for row in ROWS if (row["model"], row["pretrained"]) in known]
    assert len(listed) > 100
    for row in listed:
        one = known[row["model"], row["pretrained"]]
        assert (one.acc1, one.t2i) == (float(row["imagenet_top1"]), float(row["coco_t2i_r1"]))
    assert known["ViT-B-16-SigLIP", "webli"].tokenizer == "timm/ViT-B-16-SigLIP"
    assert known["ViT-B-32", "openai"].tokenizer is None
    assert known["ViT-B-32", "openai"].dimension == 512


def test_nothing_beats_what_is_worth_taking() -> None:
    known = known_weights()
    chosen = worth_taking(known)
    measured = [one for one in known if one.acc1 is not None and one.gflops is not None]
    for one in chosen:
        assert not any(other.acc1 > one.acc1 and other.gflops <= one.gflops for other in measured)
    for other in measured:
        assert any(one.acc1 >= other.acc1 and one.gflops <= other.gflops for one in chosen)


def test_weights_on_this_machine_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, file_download

    folder = tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("abc")
    (folder / "snapshots/abc/open_clip_model.safetensors").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(file_download.constants, "HF_HUB_CACHE", str(tmp_path))
    here = {one.pretrained for one in weights_of("ViT-B-32", known_weights()) if one.here}
    assert here == {"laion2b_s34b_b79k"}


def test_a_name_without_weights_is_told_with_those_that_are_like_it() -> None:
    with pytest.raises(UserError, match=r"close to it: ViT-B-32, .*; type: clipmill models ViT-B-32$"):
        weights_of("vit_b_32", known_weights())
