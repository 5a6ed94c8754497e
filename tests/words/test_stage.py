"""Texts are written once, whole, and the same after an interruption; what differs is told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from blocks import encoded, write_pictures
from clipmill import storage
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import AskSettings, CaptionSettings, ClusterSettings, ModelSettings
from clipmill.core.text_manifests import GeneratorIdentity
from clipmill.runs.text_stages import words_stage
from clipmill.source.columns import Columns
from clipmill.stage.units.layout import Layout
from clipmill.verification.dataset import verify
from clipmill.words import loading, steps
from clipmill.words.asking import Asking
from clipmill.words.engines.transformers import TransformersGenerator
from clipmill.words.loading import FoundGenerator
from clipmill.words.protocol import Decoding
from clipmill.words.sums import TextSums
from tiny_generators import tiny_generator

ROWS = 40
HERE = ClusterSettings(device="cpu", cpus=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_generator("llava", tmp_path_factory.mktemp("llava")).folder)


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    questions = [None if row == 7 else f"question {row}?" for row in range(ROWS)]
    return write_pictures(tmp_path_factory.mktemp("in") / "pictures", ROWS, question=questions)


def caption(folder: str, output: Path, model: str, **options: Any) -> CaptionSettings:
    return CaptionSettings(input=folder, output=str(output), model=model, **{"max_tokens": 6, **options})


def texts_of(output: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(output.glob("texts/*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_every_picture_has_a_text_and_verify_says_so(pictures_folder: str, model: str, tmp_path: Path) -> None:
    made = words_stage(caption(pictures_folder, tmp_path / "out", model), HERE, Silent())
    assert not made.already
    assert [row["row"] for row in texts_of(tmp_path / "out")] == list(range(ROWS))
    assert [row["id"] for row in texts_of(tmp_path / "out")] == [f"p{row}" for row in range(ROWS)]
    counts = made.manifest.counts
    assert (counts.rows, counts.answered, counts.texts, counts.cut) == (ROWS, ROWS, ROWS, ROWS)
    assert made.manifest.generator.engine == "transformers"
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []
    again = words_stage(caption(pictures_folder, tmp_path / "out", model), HERE, Silent())
    assert again.already


@pytest.mark.parametrize("options", [{"seed": 4, "temperature": 0.8, "candidates": 2}, {}])
def test_an_interrupted_run_ends_with_the_same_texts_and_asks_nothing_twice(
    options: dict[str, Any], pictures_folder: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words_stage(caption(pictures_folder, tmp_path / "whole", model, **options), HERE, Silent())
    asked: list[int] = []
    plain = steps.commit_unit

    def stops(layout: Any, number: int, packed: Any) -> None:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(number)
        plain(layout, number, packed)

    settings = caption(pictures_folder, tmp_path / "cut", model, **options)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "commit_unit", stops)
        with pytest.raises(KeyboardInterrupt):
            words_stage(settings, HERE, Silent())
    made = words_stage(settings, HERE, Silent()).manifest
    assert texts_of(tmp_path / "cut") == texts_of(tmp_path / "whole")
    assert len(texts_of(tmp_path / "cut")) == ROWS * options.get("candidates", 1)
    assert made.runs[-1].rows_reused == 16
    assert made.runs[-1].rows_encoded == ROWS - 16
    assert verify(str(tmp_path / "cut"), quick=False, reporter=Silent()).faults == []


def test_drawn_candidates_differ_and_another_seed_draws_others(
    pictures_folder: str, model: str, tmp_path: Path
) -> None:
    options = {"temperature": 1.0, "candidates": 3, "limit": 8}
    words_stage(caption(pictures_folder, tmp_path / "a", model, seed=0, **options), HERE, Silent())
    words_stage(caption(pictures_folder, tmp_path / "b", model, seed=1, **options), HERE, Silent())
    first, second = texts_of(tmp_path / "a"), texts_of(tmp_path / "b")
    assert [(row["row"], row["candidate"]) for row in first] == [(row, n) for row in range(8) for n in range(3)]
    assert len({row["text"] for row in first if row["row"] == 0}) > 1
    assert [row["text"] for row in first] != [row["text"] for row in second]


def test_questions_come_from_a_column_and_an_empty_one_is_a_reject(
    pictures_folder: str, model: str, tmp_path: Path
) -> None:
    settings = AskSettings(
        input=pictures_folder,
        output=str(tmp_path / "out"),
        model=model,
        question_column="question",
        choices="yes,no",
        limit=12,
    )
    made = words_stage(settings, HERE, Silent()).manifest
    found = texts_of(tmp_path / "out")
    assert [row["prompt"] for row in found] == [f"question {row}?" for row in range(12) if row != 7]
    assert {row["text"] for row in found} <= {"yes", "no"}
    assert {row["finish"] for row in found} == {"choice"}
    assert made.counts.rejected_by_reason == {"missing_question": 1}
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []


def test_other_settings_and_another_model_are_refused(
    pictures_folder: str, model: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path / "out"
    words_stage(caption(pictures_folder, output, model, limit=4), HERE, Silent())
    with pytest.raises(OutputDiffers, match="max tokens: was 6, now 7"):
        words_stage(caption(pictures_folder, output, model, limit=4, max_tokens=7), HERE, Silent())
    with pytest.raises(OutputDiffers, match=r"style: was short, now alt"):
        words_stage(caption(pictures_folder, output, model, limit=4, style="alt"), HERE, Silent())
    other = tiny_generator("smolvlm", tmp_path_factory.mktemp("other")).folder
    with pytest.raises(OutputDiffers, match="model weights_sha256"):
        words_stage(caption(pictures_folder, output, str(other), limit=4), HERE, Silent())


def test_examples_change_the_texts_and_are_part_of_what_they_follow_from(
    pictures_folder: str, model: str, tmp_path: Path
) -> None:
    (tmp_path / "shown.png").write_bytes(encoded(99))
    examples = tmp_path / "examples.jsonl"
    examples.write_text(json.dumps({"image": "shown.png", "prompt": "what is it", "answer": "blocks"}) + "\n")
    words_stage(caption(pictures_folder, tmp_path / "plain", model, limit=6), HERE, Silent())
    words_stage(caption(pictures_folder, tmp_path / "shown", model, limit=6, examples=str(examples)), HERE, Silent())
    plain, with_examples = texts_of(tmp_path / "plain"), texts_of(tmp_path / "shown")
    assert [row["text"] for row in plain] != [row["text"] for row in with_examples]
    examples.write_text(json.dumps({"image": "shown.png", "prompt": "what is it", "answer": "squares"}) + "\n")
    with pytest.raises(OutputDiffers, match="examples sha256"):
        words_stage(
            caption(pictures_folder, tmp_path / "shown", model, limit=6, examples=str(examples)), HERE, Silent()
        )


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (CaptionSettings, {"candidates": 3}, "--candidates 3 would all be the same at --temperature 0"),
        (AskSettings, {}, "give either --question or --question-column"),
        (AskSettings, {"question": "a?", "question_column": "question"}, "give either --question or --question-column"),
        (AskSettings, {"question": "a?", "choices": "yes"}, "--choices needs two answers or more"),
        (AskSettings, {"question": "a?", "choices": "yes,yes"}, "--choices has an answer twice"),
        (AskSettings, {"question_column": "nothing"}, "nothing"),
        (
            CaptionSettings,
            {"model": "ViT-B-32", "pretrained": "openai"},
            "has no decoder that writes captions|no decoder",
        ),
        (CaptionSettings, {"examples": "gone.csv"}, "--examples gone.csv cannot be read"),
        (CaptionSettings, {"engine": "open_clip"}, "--engine open_clip cannot run this model"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(
    kind: Any, options: dict[str, Any], message: str, pictures_folder: str, model: str, tmp_path: Path
) -> None:
    values = {"input": pictures_folder, "output": str(tmp_path / "out"), "model": model, **options}
    if values["model"] == "ViT-B-32":
        (tmp_path / "weights.safetensors").write_bytes(b"none")
        values["pretrained"] = str(tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=message):
        words_stage(kind(**values), HERE, Silent())
    assert not (tmp_path / "out").exists()


def test_models_that_do_not_write_or_do_not_answer_are_refused(
    pictures_folder: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (clip / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="of the type 'clip', which does not take pictures and write words"):
        words_stage(caption(pictures_folder, tmp_path / "out", str(clip)), HERE, Silent())
    blip = str(tiny_generator("blip", tmp_path_factory.mktemp("blip")).folder)
    asked = AskSettings(input=pictures_folder, output=str(tmp_path / "out"), model=blip, question="what?")
    with pytest.raises(UserError, match="of the type blip, which writes captions and answers no questions"):
        words_stage(asked, HERE, Silent())


def test_a_model_without_its_processor_is_one_sentence(
    pictures_folder: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = tiny_generator("llava", tmp_path_factory.mktemp("part"))
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (made.folder / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="it needs the files of its processor and tokenizer"):
        words_stage(caption(pictures_folder, tmp_path / "out", str(made.folder), limit=2), HERE, Silent())


def test_a_run_that_goes_on_otherwise_computes_otherwise_and_lets_the_model_go(
    pictures_folder: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process: interrupted in float32, continued in bfloat16, each told of the rows that it wrote about."""
    plain, commits = steps.commit_unit, []

    def stops(layout: Any, number: int, packed: Any) -> None:
        if commits:
            raise KeyboardInterrupt
        commits.append(number)
        plain(layout, number, packed)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "commit_unit", stops)
        with pytest.raises(KeyboardInterrupt):
            words_stage(caption(pictures_folder, tmp_path / "out", model, limit=16), HERE, Silent())
    assert steps._writer.cache_info().currsize == 0
    settings = caption(pictures_folder, tmp_path / "out", model, limit=16, precision="bf16")
    made = words_stage(settings, HERE, Silent()).manifest
    assert made.generated_with == {"cpu fp32 batch 8": 8, "cpu bf16 batch 8": 8}
    assert steps._writer.cache_info().currsize == 0


def test_two_jobs_that_compute_otherwise_do_not_share_a_model(tmp_path: Path) -> None:
    layout = Layout(storage.resolve(tmp_path), "token", 1, 1, (), TextSums)
    identity = GeneratorIdentity(name="x", engine="x", weights_sha256=None, processor_sha256=None)
    found = FoundGenerator("llava", tmp_path, identity, ModelSettings())
    columns = Columns("image", "binary", None, False, None, ())
    job = steps.Job(found, Asking("", Decoding(1)), (), columns, layout, 0, 0, "fp32", 1, (), None, "cpu", 1)
    assert steps._Key(job) == steps._Key(replace(job, threads=4))
    for change in ({"precision": "bf16"}, {"device": "cuda"}, {"batch_size": 3}):
        assert steps._Key(job) != steps._Key(replace(job, **change))


@pytest.mark.parametrize(("small", "threads"), [(loading.SMALL_BYTES, 1), (0, 3)])
def test_the_cores_of_a_machine_share_products_of_large_models_only(
    pictures_folder: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int, threads: int
) -> None:
    seen, plain = set(), TransformersGenerator.generate

    def generate(self: TransformersGenerator, *given: Any) -> Any:
        seen.add(torch.get_num_threads())
        return plain(self, *given)

    monkeypatch.setattr(TransformersGenerator, "generate", generate)
    monkeypatch.setattr(loading, "SMALL_BYTES", small)
    cluster = ClusterSettings(device="cpu", cpus=3)
    words_stage(caption(pictures_folder, tmp_path / "out", model, limit=4), cluster, Silent())
    assert seen == {threads}


def test_a_folder_that_a_node_lacks_is_told(tmp_path: Path) -> None:
    identity = GeneratorIdentity(name="transformers:llava", engine="x", weights_sha256=None, processor_sha256=None)
    gone = tmp_path / "gone"
    found = FoundGenerator("llava", gone, identity, ModelSettings(model=str(gone)))
    with pytest.raises(UserError, match=r"gone is not on the node .*; put it at the same place on every node"):
        found.load("cpu", "fp32")


def test_a_prompt_longer_than_the_context_is_a_reject(pictures_folder: str, model: str, tmp_path: Path) -> None:
    settings = caption(pictures_folder, tmp_path / "out", model, limit=3, prompt="many words " * 200)
    made = words_stage(settings, HERE, Silent()).manifest
    assert made.counts.rejected_by_reason == {"not_answerable": 3}
    assert made.counts.texts == 0
