"""A model of clipmill is an encoder of MTEB's, and an index of clipmill its search: its tasks run, and score as they should."""

import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import clipmill.mteb
from captioned import unit
from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders.model import load_model
from clipmill.encoders.protocol import SoundEncoder
from clipmill.source.decode import decode_image
from pictures import noisy
from tiny_clips import RATE, tiny_clap

pytest.importorskip("mteb.models", reason="mteb is not installed")  # this folder is called mteb too
import mteb

PAGE = (Path(__file__).parents[2] / "docs/mteb.md").read_text(encoding="utf-8")
TOLD = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}
TEXTS = ["a red circle", "two blue squares", "nothing"]


@pytest.fixture(scope="module")
def model() -> clipmill.mteb.MtebEncoder:
    return clipmill.mteb.encoder(device="cpu")


def every_task() -> set[str]:
    """The mock tasks of texts and pictures."""
    grid = mteb.mocks.mock_run.ALL_MOCK_TASK_TEST_GRID
    return {task.metadata.name for task in grid if set(task.metadata.modalities) <= {"text", "image"}}


def test_every_task_of_texts_and_pictures_runs(model: clipmill.mteb.MtebEncoder) -> None:
    assert isinstance(model, mteb.EncoderProtocol)
    found = mteb.mock_run(model)
    assert found.all_passed
    results = {name for name, result in found.items() if isinstance(result, mteb.TaskResult)}
    assert results == every_task()
    assert len(results) > 30


@pytest.mark.parametrize("name", ["MockAny2AnyRetrievalT2I", "MockAny2AnyRetrievalI2T", "MockRerankingTask"])
def test_tasks_run_through_an_index(model: clipmill.mteb.MtebEncoder, name: str) -> None:
    (task,) = (one for one in mteb.mocks.mock_run.ALL_MOCK_TASK_TEST_GRID if one.metadata.name == name)
    searched = clipmill.mteb.index_search(model)
    assert isinstance(searched, mteb.SearchProtocol)
    plain, through = (mteb.evaluate(one, task, cache=None).task_results[0].scores for one in (model, searched))
    assert set(plain) == set(through)
    for split in plain:
        for one, other in zip(plain[split], through[split], strict=True):
            assert one["main_score"] == other["main_score"]  # so few documents are all compared
    built = searched.index_backend.manifest
    assert (built is None) == (name == "MockRerankingTask")
    assert built is None or built.exact


def test_items_are_encoded_as_a_dataset_is(model: clipmill.mteb.MtebEncoder) -> None:
    files = [noisy(90, 60), noisy(40, 120), noisy(64, 64)]
    inner = model.model
    pixels = torch.stack([inner.preprocessing.prepare(decode_image(file, 10**9)) for file in files])
    pictures = [Image.open(io.BytesIO(file)) for file in files]
    batches = [{"image": pictures[:2], "text": TEXTS[:2]}, {"image": pictures[2:], "text": TEXTS[2:]}]
    images = model.encode([{"image": batch["image"]} for batch in batches], **TOLD)
    np.testing.assert_allclose(images, inner.encode_images(pixels), atol=1e-6)
    texts = model.encode([{"text": batch["text"]} for batch in batches], **TOLD)
    np.testing.assert_allclose(texts, inner.encode_texts(TEXTS), atol=1e-6)
    both = model.encode(batches, **TOLD)
    np.testing.assert_allclose(both, (images + texts) / np.linalg.norm(images + texts, axis=1)[:, None], atol=1e-6)
    assert model.encode([], **TOLD).shape == (0, inner.identity.dimension)


def test_a_picture_that_is_given_stays_as_it_is(model: clipmill.mteb.MtebEncoder) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 60, 4), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colours).quantize(64).save(stream, "PNG", transparency=3)
    picture = Image.open(io.BytesIO(stream.getvalue()))
    before = dict(picture.info)
    (mine,) = model.encode([{"image": [picture]}], **TOLD)
    assert picture.info == before
    prepared = model.model.preprocessing.prepare(decode_image(stream.getvalue(), 10**9))
    np.testing.assert_allclose(mine, model.model.encode_images(prepared[None])[0], atol=1e-6)


def test_queries_have_the_prompt_of_queries(model: clipmill.mteb.MtebEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(model.model)
    monkeypatch.setattr(kind, "encode_queries", lambda self, texts: self.encode_texts([f"query: {t}" for t in texts]))
    expected = {"query": [f"query: {text}" for text in TEXTS], "document": TEXTS, None: TEXTS}
    for role, texts in expected.items():
        prompt_type = mteb.types.PromptType(role) if role else None
        mine = model.encode([{"text": TEXTS}], prompt_type=prompt_type, **TOLD)
        np.testing.assert_allclose(mine, model.model.encode_texts(texts), atol=1e-6)


def test_sounds_are_heard_at_the_rate_of_the_model(tmp_path: Path) -> None:
    tiny_clap(tmp_path)
    model = clipmill.mteb.encoder(str(tmp_path), device="cpu")
    assert model.mteb_model_meta.modalities == ["text", "audio"]
    seconds = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    twice = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / (2 * RATE)).astype(np.float32)
    given = [
        {"array": tone, "sampling_rate": RATE},
        {"array": np.stack([twice, twice]), "sampling_rate": 2 * RATE},  # the same in two channels of twice the rate
    ]
    found = model.encode([{"audio": given}], **TOLD)
    encoder = model.model.encoder
    assert isinstance(encoder, SoundEncoder)
    expected = model.model.start_sounds(encoder.sounds.prepare(tone[:RATE])[None])()
    np.testing.assert_allclose(found[:1], expected, atol=1e-6)
    assert found[1] @ expected[0] > 0.99
    with pytest.raises(UserError, match="encodes text and audio; this task gives image"):
        model.encode([{"image": []}], **TOLD)


def test_similarities_are_cosines(model: clipmill.mteb.MtebEncoder) -> None:
    one, other = np.random.default_rng(1).normal(size=(2, 4, 8)).astype(np.float32)
    cosines = (one @ other.T) / np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
    np.testing.assert_allclose(np.asarray(model.similarity(one, other)), cosines, atol=1e-6)
    np.testing.assert_allclose(np.asarray(model.similarity_pairwise(one, other)), np.diag(cosines), atol=1e-6)


def test_what_is_recorded_says_which_model_it_was(model: clipmill.mteb.MtebEncoder) -> None:
    plain = load_model(ModelSettings(), device="cpu")
    meta = model.mteb_model_meta
    assert meta.name == "clipmill/builtin"
    assert meta.revision == plain.identity.weights_sha256
    assert meta.embed_dim == plain.identity.dimension
    assert meta.n_parameters == sum(one.numel() for one in plain.network.parameters())
    assert meta.modalities == ["text", "image"]
    searched = clipmill.mteb.index_search(model, results=10, memory="24MB").mteb_model_meta
    assert searched.experiment_kwargs == {"index": "clipmill", "results": "10", "memory": "24MB"}
    assert searched.experiment_name != meta.experiment_name


def documents() -> tuple[np.ndarray, np.ndarray]:
    """Vectors in clusters, and queries that are like them."""
    random = np.random.default_rng(5)
    centres = random.normal(size=(40, 32))
    vectors = unit(centres[random.integers(0, 40, 4000)] + 0.8 * random.normal(size=(4000, 32))).astype(np.float32)
    queries = unit(vectors[::100] + 0.1 * random.normal(size=(40, 32))).astype(np.float32)
    return vectors, queries


def searched(
    settings: dict[str, Any], k: int = 10
) -> tuple[clipmill.mteb.IndexBackend, list[list[float]], list[list[int]]]:
    vectors, queries = documents()
    backend = clipmill.mteb.IndexBackend(settings)
    backend.add_documents(vectors[:1500], [f"d{number}" for number in range(1500)])
    backend.add_documents(torch.from_numpy(vectors[1500:]), [f"d{number}" for number in range(1500, 4000)])
    scores, numbers = backend.search(queries, k, lambda one, other: one @ other.T)
    return backend, scores, numbers


def test_an_exact_index_finds_what_exact_search_finds() -> None:
    vectors, queries = documents()
    _, scores, numbers = searched({"factory": "Flat"})
    exact = queries @ vectors.T
    np.testing.assert_array_equal(numbers, np.argsort(-exact, axis=1)[:, :10])
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :10], atol=2e-3)  # of vectors in half precision


def test_no_more_results_are_asked_for_than_is_said() -> None:
    vectors, queries = documents()
    backend = clipmill.mteb.IndexBackend({"factory": "Flat"}, results=7)
    backend.add_documents(vectors, [f"d{number}" for number in range(len(vectors))])
    _, numbers = backend.search(queries, 1000, lambda one, other: one @ other.T)
    np.testing.assert_array_equal(numbers, np.argsort(-(queries @ vectors.T), axis=1)[:, :7])


def test_documents_that_come_later_are_found_too() -> None:
    vectors, queries = documents()
    backend, _, _ = searched({"factory": "Flat"})
    backend.add_documents(queries, [f"later{number}" for number in range(len(queries))])
    scores, numbers = backend.search(queries, 1, lambda one, other: one @ other.T)
    assert [found for (found,) in numbers] == list(range(len(vectors), len(vectors) + len(queries)))
    np.testing.assert_allclose(scores, 1, atol=2e-3)


def test_codes_are_what_is_searched() -> None:
    """Scores are those of codes, no query finds more than it asked for, and few lists miss some documents."""
    vectors, queries = documents()
    backend, scores, numbers = searched({"factory": "IVF16,PQ8x4fsr", "rerank_vectors": "none", "target_recall": 0.3})
    assert backend.manifest is not None
    assert backend.manifest.factory == "IVF16,PQ8x4fsr"
    exact = queries @ vectors.T
    told = np.concatenate([exact[query, found] for query, found in enumerate(numbers)])
    assert np.abs(told - np.concatenate(scores)).max() > 1e-2
    best = np.argsort(-exact, axis=1)[:, :10]
    recall = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(numbers, best.tolist(), strict=True)])
    assert 0.2 < recall < 1
    assert all(len(found) <= 10 and min(found) >= 0 for found in numbers)


def test_candidates_are_scored_each() -> None:
    vectors, queries = documents()
    backend = clipmill.mteb.IndexBackend({})
    backend.add_documents(vectors, [f"d{number}" for number in range(len(vectors))])
    candidates = {"a": ["d7", "d3900", "d100"], "b": []}
    scores, places = backend.search(
        queries[:2], 2, lambda one, other: torch.as_tensor(one @ other.T), candidates, {0: "a", 1: "b"}
    )
    exact = queries[0] @ vectors[[7, 3900, 100]].T
    assert places == [np.argsort(-exact)[:2].tolist(), []]
    np.testing.assert_allclose(scores[0], -np.sort(-exact)[:2], atol=1e-6)


def test_files_go_when_documents_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    backend = clipmill.mteb.IndexBackend({"factory": "Flat"})
    backend.add_documents(documents()[0], [f"d{number}" for number in range(4000)])
    assert list(tmp_path.iterdir())
    backend.clear()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="add_documents"):
        backend.search(documents()[1], 10, lambda one, other: one @ other.T)


def test_a_mistake_is_told_before_anything_is_encoded(
    model: clipmill.mteb.MtebEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--target-recal"):
        clipmill.mteb.index_search(model, target_recal=0.9)
    with pytest.raises(UserError, match="ViT-B-32"):
        clipmill.mteb.encoder("ViT-B-23")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install 'clipmill[mteb]'")):
        clipmill.mteb.encoder()


def test_importing_it_imports_nothing_heavy() -> None:
    told = "import sys, clipmill.mteb; print([name for name in ('mteb', 'torch', 'datasets') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_page_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    assert [("get_tasks" in block, "mock_run" in block, "Scenes" in block) for block in blocks] == [
        (True, False, False),  # of data from a hub
        (False, True, False),
        (False, False, True),
    ]
    monkeypatch.chdir(tmp_path)
    sample = ["-m", "clipmill_jobs", "sample", "--rows", "300", "--output", "scenes"]
    assert "clipmill sample --rows 300 --output scenes" in PAGE
    subprocess.run([sys.executable, *sample], check=True, capture_output=True)
    exec(compile(blocks[2], "mteb.md", "exec"), {"__name__": "page"})
    exact, coded, resident = map(float, capsys.readouterr().out.split())
    assert 0.3 < coded < exact <= 1
    assert 0 < resident < 300 * 192 * 4  # the vectors themselves
