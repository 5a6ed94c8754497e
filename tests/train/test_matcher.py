"""A head learns to tell true texts from near misses, on any number of workers, as if there were one."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import BlipForImageTextRetrieval, BlipProcessor

from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, TrainSettings
from clipmill.runs.stages import train_stage
from clipmill.train.batches import Batch
from clipmill.train.matcher import Matcher, make_matcher
from clipmill.train.truth import Truth
from clipmill.train.workers import Alone
from threaded import Threaded, in_threads
from tiny_generators import tiny_generator, tiny_matcher

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "yellow": (230, 220, 20)}


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_matcher(tmp_path_factory.mktemp("blip")).folder


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures of one colour each with its name."""
    folder = tmp_path_factory.mktemp("coloured")
    rows = []
    for row in range(48):
        name, shade = list(COLOURS.items())[row % len(COLOURS)]
        stream = io.BytesIO()
        Image.new("RGB", (40, 40), tuple(min(255, value + row % 7) for value in shade)).save(stream, "PNG")
        rows.append({"image": stream.getvalue(), "caption": f"it is {name}"})
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return str(folder)


def settings(folder: Path, architecture: Path, data: str, **options: Any) -> TrainSettings:
    values = {
        "input": data,
        "pretrained": str(architecture),
        "batch_size": 16,
        "warmup_steps": 5,
        "learning_rate": 3e-3,
    }
    return TrainSettings(output=str(folder / "model"), loss="itm", **{**values, **options})


def matcher(architecture: Path, **options: Any) -> Matcher:
    made = TrainSettings(input="x", output="y", pretrained=str(architecture), loss="itm", **options)
    return make_matcher(made, torch.device("cpu"))


def batch(count: int) -> Batch:
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    texts = [f"picture number {row // 2}" for row in range(count)]  # two pictures share each text
    return Batch(pixels, texts, [], [(text,) for text in texts], [()] * count)


def part_of(whole: Batch, rows: slice) -> Batch:
    return Batch(whole.pixels[rows], whole.texts[rows], [], whole.captions[rows], whole.questions[rows])


def gradients(learner: Matcher) -> list[torch.Tensor]:
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in learner.network.parameters()]


def assert_same(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_near_misses_are_never_true_and_the_probable_come_more_often(architecture: Path) -> None:
    learner, whole = matcher(architecture), batch(8)
    learner.network.logit_scale.data.fill_(3.0)
    truth = Truth([whole.part])
    drawn = [learner._near_misses(step, whole, whole.pixels, truth, Alone()) for step in range(200)]
    for near in drawn:
        assert all(text is not None and text != own for text, own in zip(near, whole.texts, strict=True))
    with torch.no_grad():
        logits = (
            learner.scale() * learner.encode_pixels(whole.pixels) @ learner.encode_tokens(learner.tokens(whole.texts)).T
        )
    others = [at for at, text in enumerate(whole.texts) if text != whole.texts[0]]
    wanted = F.softmax(logits[0, others].double(), dim=0)
    for text in {whole.texts[at] for at in others}:
        share = sum(float(p) for at, p in zip(others, wanted, strict=True) if whole.texts[at] == text)
        assert sum(near[0] == text for near in drawn) / len(drawn) == pytest.approx(share, abs=0.12)


def test_pictures_without_a_near_miss_are_only_told_that_their_text_is_true(architecture: Path) -> None:
    learner, whole = matcher(architecture), batch(2)
    assert learner._near_misses(0, whole, whole.pixels, Truth([whole.part]), Alone()) == [None, None]
    assert learner.backward(0, whole, [whole.part], Alone(), []) > 0


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_give_the_gradient_of_the_whole(architecture: Path, micro_batch: int) -> None:
    found = []
    for size in (0, micro_batch):
        learner = matcher(architecture, micro_batch=size)
        loss = learner.backward(0, batch(7), [batch(7).part], Alone(), [])
        found.append((loss, gradients(learner)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    assert_same(found[0][1], found[1][1])


def test_two_workers_give_the_gradient_of_one_with_the_whole_batch(architecture: Path) -> None:
    whole = batch(7)
    alone = matcher(architecture)
    expected = alone.backward(0, whole, [whole.part], Alone(), [])
    parts = [part_of(whole, slice(0, 3)), part_of(whole, slice(3, 7))]
    learners = [matcher(architecture) for _ in parts]

    def work(workers: Threaded) -> float:
        return learners[workers.rank].backward(0, parts[workers.rank], [one.part for one in parts], workers, [])

    losses = in_threads(2, work)
    assert losses == [pytest.approx(expected, rel=1e-4)] * 2
    assert_same([one + other for one, other in zip(*map(gradients, learners), strict=True)], gradients(alone))


def test_a_model_that_learned_to_match_tells_what_is_true(architecture: Path, coloured: str, tmp_path: Path) -> None:
    """Read by the library alone, from the folder that was written."""
    train_stage(settings(tmp_path, architecture, coloured, steps=120), ClusterSettings(device="cpu"), Silent())
    record = json.loads((tmp_path / "model/training.json").read_text())
    assert record["losses"][-1]["loss"] < 0.1
    network = BlipForImageTextRetrieval.from_pretrained(tmp_path / "model").eval()
    processor = BlipProcessor.from_pretrained(tmp_path / "model")
    names = list(COLOURS)
    for name, shade in COLOURS.items():
        texts = [f"it is {one}" for one in names]
        inputs = processor(
            images=[Image.new("RGB", (40, 40), shade)] * len(names), text=texts, return_tensors="pt", padding=True
        )
        with torch.inference_mode():
            true = network(**inputs).itm_score.softmax(dim=-1)[:, 1]
        assert names[int(true.argmax())] == name


def test_validation_counts_how_often_true_texts_are_told_from_others(
    architecture: Path, coloured: str, tmp_path: Path
) -> None:
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    table = pq.read_table(coloured)
    fresh = []
    for row, caption in enumerate(table.column("caption").to_pylist()[:8]):
        stream = io.BytesIO()
        Image.new("RGB", (41 + row, 40), tuple(COLOURS[caption.split()[-1]])).save(stream, "PNG")
        fresh.append({"image": stream.getvalue(), "caption": caption})
    pq.write_table(pa.Table.from_pylist(fresh), held_out / "rows.parquet")
    made = settings(tmp_path, architecture, coloured, steps=120, validation=str(held_out))
    train_stage(made, ClusterSettings(device="cpu"), Silent())
    last = json.loads((tmp_path / "model/training.json").read_text())["validations"][-1]
    assert last["matching"] > 0.9
    assert last["t2i_r@1"] > 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lora": 4}, "--lora: not for --loss itm"),
        ({"pretrained": None}, "--loss itm trains a model of transformers"),
    ],
)
def test_what_does_not_go_together_is_told(
    architecture: Path, coloured: str, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        train_stage(settings(tmp_path, architecture, coloured, **options), ClusterSettings(device="cpu"), Silent())


def test_a_model_without_a_matching_head_is_told(coloured: str, tmp_path: Path) -> None:
    other = tiny_generator("llava", tmp_path / "llava").folder
    with pytest.raises(UserError, match="is of the type 'llava'"):
        train_stage(settings(tmp_path, other, coloured), ClusterSettings(device="cpu"), Silent())
