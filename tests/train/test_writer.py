"""A model learns to answer: only answers are learned, each behind what stands before it when the model is asked."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import AskSettings, ClusterSettings, TrainSettings
from clipmill.core.text_manifests import GeneratorIdentity
from clipmill.runs.stages import train_stage
from clipmill.runs.text_stages import words_stage
from clipmill.storage import resolve
from clipmill.train.batches import Batch
from clipmill.train.next_token import NOT_ASKED
from clipmill.train.trainer import Step, Told, train_worker
from clipmill.train.workers import Alone
from clipmill.train.writer import Writer, make_writer
from clipmill.words.engines.transformers import TransformersGenerator
from clipmill.words.protocol import Question
from tiny_generators import tiny_generator

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "yellow": (230, 220, 20)}
PAIRS = [("what colour is it?", "red"), ("is it bright?", "yes it is"), ("how many?", "one")]


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_generator("llava", tmp_path_factory.mktemp("llava")).folder


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures of one colour each, and what is asked of them."""
    folder = tmp_path_factory.mktemp("coloured")
    rows = []
    for row in range(48):
        name, shade = list(COLOURS.items())[row % len(COLOURS)]
        stream = io.BytesIO()
        Image.new("RGB", (40, 40), tuple(min(255, value + row % 7) for value in shade)).save(stream, "PNG")
        dark = "no" if name == "yellow" else "yes"
        rows.append(
            {
                "image": stream.getvalue(),
                "question": ["which colour is it?", "is it dark?"],
                "answer": [name, dark],
                "asked": "which colour is it?",
                "wanted": name,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return str(folder)


def settings(folder: Path, architecture: Path, data: str, **options: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "input": data,
        "model": str(architecture),
        "question_column": "question",
        "answer_column": "answer",
        "batch_size": 16,
        "warmup_steps": 5,
        "learning_rate": 3e-3,
    }
    return TrainSettings(output=str(folder / "model"), loss="lm", **{**values, **options})


def writer(architecture: Path, **options: Any) -> Writer:
    made = TrainSettings(input="x", output="y", model=str(architecture), loss="lm", **options)
    learner = make_writer(made, torch.device("cpu"))
    learner.network.double()
    return learner


def batch(count: int) -> Batch:
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    answers = [tuple(answer for _, answer in PAIRS[: 1 + row % 3]) for row in range(count)]
    questions = [tuple(question for question, _ in PAIRS[: 1 + row % 3]) for row in range(count)]
    return Batch(pixels, [one[0] for one in answers], [], answers, questions)


def test_what_stands_before_an_answer_is_what_the_model_is_asked_with(architecture: Path) -> None:
    learner = writer(architecture)
    nobody = GeneratorIdentity(
        name="x", engine="transformers", pretrained="", weights_sha256=None, processor_sha256=None
    )
    asked = TransformersGenerator(learner.network, learner.source.processor, nobody, torch.device("cpu"))
    picture = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    made = learner.phrasing.conversation([PAIRS[0]])
    prompt = asked.prepare(Question(picture, PAIRS[0][0])).inputs["input_ids"][0].tolist()
    assert made.ids[: len(prompt)] == prompt
    assert made.ids[len(prompt) :] == asked._answer("red")
    assert made.labels == [NOT_ASKED] * len(prompt) + asked._answer("red")


def test_every_question_looks_back_at_the_picture_and_at_itself_alone(architecture: Path) -> None:
    """Each turn, cut out of the conversation with what it looks at, is the conversation of that turn alone."""
    phrasing = writer(architecture).phrasing
    made = phrasing.packed([phrasing.conversation(PAIRS)])
    for number, pair in enumerate(PAIRS, 1):
        alone = phrasing.conversation([pair])
        last = phrasing.conversation(PAIRS).turns.index(number) + alone.turns.count(1) - 1
        seen = made.looks_at[0, 0, last]
        assert made.ids[0, seen].tolist() == alone.ids
        assert made.labels[0, seen].tolist() == alone.labels
        assert made.positions[0, seen].tolist() == alone.positions == list(range(len(alone.ids)))


def test_turns_that_do_not_fit_are_left_out_and_a_first_that_does_not_is_told(architecture: Path) -> None:
    phrasing = writer(architecture).phrasing
    first, two = (len(phrasing.conversation(PAIRS[:count]).ids) for count in (1, 2))
    assert len(replace(phrasing, most=two).conversation(PAIRS).ids) == two
    with pytest.raises(UserError, match="more tokens than the model takes"):
        replace(phrasing, most=first - 1).conversation(PAIRS)


def gradients(learner: Writer, parts: Sequence[Batch]) -> list[torch.Tensor]:
    learner.network.zero_grad(set_to_none=True)
    for part in parts:
        learner.backward(0, part, [one.part for one in parts], Alone(), [])
    return [weight.grad for weight in learner.network.parameters() if weight.grad is not None]


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_micro_batches_give_the_gradient_of_the_whole(architecture: Path, micro_batch: int) -> None:
    whole, cut = writer(architecture), writer(architecture, micro_batch=micro_batch)
    for one, other in zip(gradients(whole, [batch(5)]), gradients(cut, [batch(5)]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_the_loss_is_the_mean_over_all_tokens_of_all_answers(architecture: Path) -> None:
    """Each question asked alone, as the library takes it, token by token."""
    learner, some = writer(architecture), batch(4)
    network = learner.network.eval()
    nats, count = 0.0, 0
    for pixels, questions, answers in zip(some.pixels, some.questions, some.captions, strict=True):
        values = learner.source.normalisation.inputs(learner.pictures, pixels[None])["pixel_values"].double()
        for turn in zip(questions, answers, strict=True):
            made = learner.phrasing.conversation([turn])
            logits = network(input_ids=torch.tensor([made.ids]), pixel_values=values).logits[0].log_softmax(dim=-1)
            for at, label in enumerate(made.labels):
                if label != NOT_ASKED:
                    nats, count = nats - logits[at - 1, label].item(), count + 1
    loss = learner.backward(0, some, [some.part], Alone(), [])
    assert loss == pytest.approx(nats / count, rel=1e-5)


def test_a_model_that_learned_to_answer_answers(architecture: Path, coloured: str, tmp_path: Path) -> None:
    made = settings(tmp_path, architecture, coloured, steps=250)
    train_stage(made, ClusterSettings(device="cpu"), Silent())
    record = json.loads((tmp_path / "model/training.json").read_text())
    assert record["losses"][-1]["loss"] < 0.1 < record["losses"][0]["loss"]
    asked = AskSettings(
        input=coloured,
        output=str(tmp_path / "answers"),
        model=str(tmp_path / "model"),
        question_column="asked",
        max_tokens=12,
    )
    words_stage(asked, ClusterSettings(device="cpu"), Silent())
    texts = pq.read_table(tmp_path / "answers/texts").to_pylist()
    wanted = pq.read_table(coloured).column("wanted").to_pylist()
    assert [one["text"] for one in sorted(texts, key=lambda one: one["row"])] == wanted


def test_validation_counts_answers_that_the_model_would_write(
    architecture: Path, coloured: str, tmp_path: Path
) -> None:
    made = settings(tmp_path, architecture, coloured, steps=1, validate_every=1)
    learner = make_writer(made, torch.device("cpu"))
    learner.network.eval()
    some = batch(6)
    examples = [
        type("Asked", (), {"pixels": pixels, "captions": captions, "questions": questions})()
        for pixels, captions, questions in zip(some.pixels, some.captions, some.questions, strict=True)
    ]
    with torch.inference_mode():
        found = learner.validate(examples, ())
    assert found.images == 6
    assert found.score == 0.0  # fresh weights write nothing of the kind
    assert found.nats > 1


class Stopped(Exception):
    pass


def test_a_run_that_was_stopped_ends_with_the_weights_it_would_have_had(
    architecture: Path, coloured: str, tmp_path: Path
) -> None:
    made = settings(tmp_path, architecture, coloured, steps=6, checkpoint_every=2)
    silent = Told(lambda step: None, lambda step, found: None)

    def stop(step: Step) -> None:
        if step.step == 5:
            raise Stopped

    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for place in (whole, halves):
        (place / "work").mkdir(parents=True)
    torch.set_num_threads(1)
    train_worker(made, resolve(whole / "work"), resolve(whole / "model"), Alone(), torch.device("cpu"), silent)
    places = (resolve(halves / "work"), resolve(halves / "model"), Alone(), torch.device("cpu"))
    with pytest.raises(Stopped):
        train_worker(made, *places, Told(stop, lambda step, found: None))
    train_worker(made, *places, silent)
    one, other = (load_file(place / "model/model.safetensors") for place in (whole, halves))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"answer_column": None}, "--question-column is given without --answer-column"),
        ({"question_column": "nope"}, "--question-column nope: .* has no such column; it has image, question"),
        ({"question_column": "asked"}, "--question-column asked is string .* is a list: both have to be lists"),
        ({"question_column": None}, "--answer-column is given without --question-column"),
        ({"caption_column": "wanted"}, "--answer-column and --caption-column both say"),
        ({"loss": "clip", "model": None}, "--question-column and --answer-column are for .* --loss lm"),
        ({"lora": 4, "pretrained": "x"}, "--lora: not for --loss lm"),
        ({"model": None}, "--loss lm trains a model of transformers"),
        ({"model": "ViT-B-32"}, "--loss lm trains a model of transformers"),
    ],
)
def test_what_does_not_go_together_is_told(
    architecture: Path, coloured: str, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    loss = options.pop("loss", "lm")
    made = settings(tmp_path, architecture, coloured, **options).model_copy(update={"loss": loss})
    with pytest.raises(UserError, match=told):
        train_stage(made, ClusterSettings(device="cpu"), Silent())


@pytest.mark.parametrize("which", ["input", "validation"])
def test_questions_that_are_not_as_many_as_answers_are_told_before_training(
    architecture: Path, coloured: str, tmp_path: Path, which: str
) -> None:
    rows = pq.read_table(coloured).to_pylist()
    rows[3] |= {"question": None}  # nothing is asked of it
    rows[31] |= {"answer": rows[31]["answer"][:1]}
    (tmp_path / "short").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "short/rows.parquet")
    made = settings(tmp_path, architecture, coloured).model_copy(update={which: str(tmp_path / "short")})
    with pytest.raises(
        UserError, match=r"row 31 of .*rows\.parquet has 2 questions in question and 1 answers in answer"
    ):
        train_stage(made, ClusterSettings(device="cpu"), Silent())


def test_a_folder_without_a_processor_is_told(architecture: Path, coloured: str, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((architecture / "config.json").read_text())
    with pytest.raises(UserError, match="has no processor that can be loaded"):
        train_stage(settings(tmp_path, bare, coloured), ClusterSettings(device="cpu"), Silent())
