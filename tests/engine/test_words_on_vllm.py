"""Rows that stream through vLLM's stages end as those that another engine writes about: with texts, with reasons, once each."""

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray

import stub_vllm
from apart import apart
from blocks import encoded, write_pictures
from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import AskSettings, CaptionSettings, ClusterSettings, GeneratorSettings
from clipmill.core.text_manifests import TextsManifest
from clipmill.engine import vllm, words_on_vllm
from clipmill.engine.autoscaler import Outlook
from clipmill.engine.cluster import Cluster
from clipmill.runs.text_stages import words_stage
from clipmill.verification.dataset import verify
from clipmill.words.loading import find_generator
from stub_vllm import TOO_LONG, killed_after, stub_processor, vllm_is_found
from tiny_generators import tiny_generator

ROWS = 40
HERE = ClusterSettings(device="cpu", cpus=1)
ON_RAY = ClusterSettings()
Write = Callable[..., tuple[TextsManifest, list[str]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_generator("llava", tmp_path_factory.mktemp("llava")).folder)


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of picture 5 the bytes are broken, and picture 7 has no question."""
    folder = tmp_path_factory.mktemp("in") / "pictures"
    write_pictures(folder, ROWS, question=[None if row == 7 else f"question {row}?" for row in range(ROWS)])
    file = folder / "part-00000.parquet"
    table = pq.read_table(file)
    images = [b"no picture" if row == 5 else encoded(row) for row in range(ROWS)]
    broken = table.set_column(1, "image", [images])
    pq.write_table(broken, file, row_group_size=16)
    return str(folder)


@pytest.fixture(scope="module")
def gpu() -> Iterator[None]:
    """A cluster of this machine with a GPU that is a number, whose workers find the stub beside the tests."""
    paths = [str(Path(stub_vllm.__file__).parent), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def write(gpu: None, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Runs a stage with the stub in the place of vLLM; returns the manifest, and what the stub was asked."""
    monkeypatch.setattr(importlib.util, "find_spec", vllm_is_found)

    def run(settings: GeneratorSettings, **errors: str) -> tuple[TextsManifest, list[str]]:
        notes = tmp_path / "asked.jsonl"
        notes.unlink(missing_ok=True)
        by_place = {name.replace("_", "/"): error for name, error in errors.items()}
        monkeypatch.setattr(vllm, "processor", stub_processor(Path(model), notes, by_place))
        made = words_stage(settings, ON_RAY, Silent()).manifest
        return made, [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    return run


def caption(folder: str, output: Path, model: str, engine: str, **options: Any) -> CaptionSettings:
    return CaptionSettings(input=folder, output=str(output), model=model, engine=engine, **{"max_tokens": 6, **options})


def rows_of(output: Path, part: str) -> list[dict[str, Any]]:
    return [row for file in sorted(output.glob(f"{part}/*.parquet")) for row in pq.read_table(file).to_pylist()]


def without_logprobs(texts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "logprob"} for row in texts]


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert without_logprobs(found) == without_logprobs(expected)
    assert [row["logprob"] for row in found] == pytest.approx([row["logprob"] for row in expected], abs=1e-4)


def test_texts_are_those_of_the_transformers_engine(
    write: Write, pictures_folder: str, model: str, tmp_path: Path
) -> None:
    words_stage(caption(pictures_folder, tmp_path / "here", model, "transformers"), HERE, Silent())
    made, asked = write(caption(pictures_folder, tmp_path / "there", model, "vllm"))
    same(rows_of(tmp_path / "there", "texts"), rows_of(tmp_path / "here", "texts"))
    assert rows_of(tmp_path / "there", "rejected") == rows_of(tmp_path / "here", "rejected")
    assert sorted(asked) == sorted(f"p{row}/0" for row in range(ROWS) if row != 5)
    assert (made.counts.texts, made.counts.rejected_images) == (ROWS - 1, 1)
    assert made.generator.engine == "vllm"
    assert made.generated_with == {"cuda auto vllm": ROWS}
    assert verify(str(tmp_path / "there"), quick=False, reporter=Silent()).faults == []


def test_a_row_that_the_engine_fails_at_is_a_reject_and_the_others_have_texts(
    write: Write, pictures_folder: str, model: str, tmp_path: Path
) -> None:
    settings = caption(pictures_folder, tmp_path / "out", model, "vllm", limit=12)
    made, _ = write(settings, p2="RuntimeError: the kernel\nfailed", p9=TOO_LONG)
    assert [row["row"] for row in rows_of(tmp_path / "out", "texts")] == [0, 1, 3, 4, 6, 7, 8, 10, 11]
    told = {row["row"]: (row["kind"], row["reason"], row["detail"]) for row in rows_of(tmp_path / "out", "rejected")}
    assert told[2] == ("text", "engine_failed", "RuntimeError: the kernel failed")
    assert told[5][:2] == ("image", "not_an_image")
    assert told[9][:2] == ("text", "not_answerable")
    assert made.counts.rejected_by_reason == {"engine_failed": 1, "not_an_image": 1, "not_answerable": 1}
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []


def test_choices_are_weighed_as_by_the_transformers_engine(
    write: Write, pictures_folder: str, model: str, tmp_path: Path
) -> None:
    def ask(output: str, engine: str) -> AskSettings:
        return AskSettings(
            input=pictures_folder,
            output=str(tmp_path / output),
            model=model,
            engine=engine,
            question_column="question",
            choices="yes,no,a red block",
            limit=12,
        )

    words_stage(ask("here", "transformers"), HERE, Silent())
    made, asked = write(ask("there", "vllm"), p3_1="RuntimeError: no")
    expected = [row for row in rows_of(tmp_path / "here", "texts") if row["row"] != 3]
    same(rows_of(tmp_path / "there", "texts"), expected)
    assert {row["finish"] for row in expected} == {"choice"}
    assert made.counts.rejected_by_reason == {"engine_failed": 1, "missing_question": 1, "not_an_image": 1}
    assert len(asked) == 3 * 10
    assert verify(str(tmp_path / "there"), quick=False, reporter=Silent()).faults == []


def test_examples_stand_before_the_question(write: Write, pictures_folder: str, model: str, tmp_path: Path) -> None:
    (tmp_path / "shown.png").write_bytes(encoded(99))
    examples = tmp_path / "examples.jsonl"
    examples.write_text(json.dumps({"image": "shown.png", "prompt": "what is it", "answer": "blocks"}) + "\n")
    options = {"limit": 4, "examples": str(examples)}
    words_stage(caption(pictures_folder, tmp_path / "here", model, "transformers", **options), HERE, Silent())
    write(caption(pictures_folder, tmp_path / "there", model, "vllm", **options))
    same(rows_of(tmp_path / "there", "texts"), rows_of(tmp_path / "here", "texts"))


def test_a_killed_run_ends_with_the_same_texts_and_asks_about_no_committed_unit_again(
    write: Write, pictures_folder: str, model: str, tmp_path: Path
) -> None:
    options = {"temperature": 0.9, "candidates": 2, "seed": 4}
    write(caption(pictures_folder, tmp_path / "whole", model, "vllm", **options))
    settings = caption(pictures_folder, tmp_path / "cut", model, "vllm", **options)
    address = ray.get_runtime_context().gcs_address
    with pytest.raises(RuntimeError, match="ended its process without a word"):
        apart(killed_after, 2, settings, Path(model), tmp_path / "before.jsonl", address)
    kept = sorted(int(file.stem) for file in tmp_path.glob(".cut.staging/*/units/*/*.arrow"))
    assert len(kept) == 2
    made, asked = write(settings)
    done = {row for number in kept for row in range(8 * number, 8 * number + 8)}
    assert sorted(asked) == sorted(
        f"p{row}/{number}" for row in range(ROWS) for number in (0, 1) if row not in done and row != 5
    )
    assert (made.runs[-1].rows_reused, made.runs[-1].rows_encoded) == (16, ROWS - 16)
    whole = rows_of(tmp_path / "whole", "texts")
    assert rows_of(tmp_path / "cut", "texts") == whole
    assert len({row["text"] for row in whole if row["row"] == 0}) == 2
    assert verify(str(tmp_path / "cut"), quick=False, reporter=Silent()).faults == []


def test_a_candidate_that_fails_leaves_the_others(
    write: Write, pictures_folder: str, model: str, tmp_path: Path
) -> None:
    settings = caption(pictures_folder, tmp_path / "out", model, "vllm", temperature=0.9, candidates=3, limit=4)
    write(settings, p1_2="RuntimeError: no")
    found = [(row["row"], row["candidate"]) for row in rows_of(tmp_path / "out", "texts")]
    assert found == [(row, number) for row in range(4) for number in range(3) if (row, number) != (1, 2)]
    (reject,) = rows_of(tmp_path / "out", "rejected")
    assert (reject["row"], reject["caption_index"], reject["reason"]) == (1, 2, "engine_failed")
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []


def test_the_processor_is_that_of_ray_with_errors_as_a_column_and_no_code_executed(
    gpu: None, pictures_folder: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", vllm_is_found)
    found = find_generator(caption(pictures_folder, tmp_path / "out", model, "vllm"))
    engines = vllm.Engines(found, engines=2, gpus=1, images=1, precision="bf16", batch_size=0, seed=3)
    built: Any = vllm.processor(engines, lambda row: row, lambda row: dict(row))
    assert list(built.stages) == ["PrepareMultimodalStage", "vLLMEngineStage"]
    stage = built.stages["vLLMEngineStage"]
    options = stage.fn_constructor_kwargs
    assert options["should_continue_on_error"]
    assert options["model"] == model
    assert options["engine_kwargs"]["dtype"] == "bfloat16"
    assert options["engine_kwargs"]["load_format"] == "safetensors"
    assert not options["engine_kwargs"]["trust_remote_code"]
    assert stage.map_batches_kwargs["num_gpus"] == 1


def test_a_cluster_that_has_no_gpu_and_brings_none_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_on_vllm, "outlook", lambda: Outlook(grows=False, refused={}))
    cluster = Cluster(cpus=4, nodes=2, node_cpus=2, gpus_of_nodes=(0, 0), own=False)
    with pytest.raises(UserError, match="--engine vllm runs on GPUs, and no node of this cluster has one"):
        words_on_vllm._with_gpus(cluster, ON_RAY, "caption", Silent())
