"""Models of transformers go the whole way: embed, here and on a cluster, index, search, evaluate, verify."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import clipmill
from apart import apart
from clipmill.core.errors import UserError
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, SampleSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.runs.stages import embed_stage
from clipmill.scenes.dataset import write_scenes
from pictures import noisy
from tiny_models import TinyModel, tiny_model


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("any") / "scenes"
    write_scenes(SampleSettings(output=str(folder), rows=70, image_size=48), Silent())
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Pictures are lists of patches, texts are filled up."""
    return tiny_model("siglip2", tmp_path_factory.mktemp("models") / "naflex")


@pytest.fixture(scope="module")
def place(scenes: Path, siglip: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    clipmill.embed(scenes, folder / "embeddings", model=str(siglip.folder))
    clipmill.build_index(folder / "embeddings", folder / "index")
    return folder


def vectors_of(folder: Path, part: str) -> np.ndarray:
    dataset = Embeddings.open(str(folder))
    tables = [dataset.open_shard(shard).read(["embedding"]) for shard in dataset.shards_of(part)]
    return np.concatenate([np.stack(table.column("embedding").to_pylist()) for table in tables]).astype(np.float32)


def unit(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features, dim=-1).numpy()


def test_stored_vectors_are_those_of_the_library(place: Path, scenes: Path, siglip: TinyModel) -> None:
    rows = pq.read_table(scenes / "part-00000.parquet").to_pylist()
    pictures = [Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows]
    texts = [text for row in rows for text in row["caption"]]
    with torch.no_grad():
        inputs = siglip.processor(images=pictures, return_tensors="pt")
        images = unit(siglip.network.get_image_features(**inputs).pooler_output)
        tokens = siglip.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        tokens.pop("token_type_ids", None)
        captions = unit(siglip.network.get_text_features(**tokens).pooler_output)
    assert (vectors_of(place / "embeddings", "images") * images).sum(axis=1).min() >= 0.999  # as float16
    assert (vectors_of(place / "embeddings", "captions") * captions).sum(axis=1).min() >= 0.999


def test_an_index_is_searched_by_text_and_by_image(place: Path, siglip: TinyModel, tmp_path: Path) -> None:
    index = clipmill.open_index(place / "index")
    images = vectors_of(place / "embeddings", "images")
    (tmp_path / "asked.png").write_bytes(noisy(80, 50))
    with torch.no_grad():
        inputs = siglip.processor(images=Image.open(tmp_path / "asked.png"), return_tensors="pt")
        picture = unit(siglip.network.get_image_features(**inputs).pooler_output)[0]
        tokens = siglip.tokenizer(["a red star"], padding="max_length", return_tensors="pt")
        tokens.pop("token_type_ids", None)
        text = unit(siglip.network.get_text_features(**tokens).pooler_output)[0]
    for query, vector in (("a red star", text), (tmp_path / "asked.png", picture)):
        found = index.search(query, k=3)
        np.testing.assert_allclose(
            found.table.column("score").to_numpy(), np.sort(images @ vector)[::-1][:3], atol=2e-3
        )


def test_an_index_is_not_searched_by_another_model(place: Path, tmp_path: Path) -> None:
    other = tiny_model("siglip", tmp_path / "other")
    with pytest.raises(UserError, match="this model did not make the index"):
        clipmill.open_index(place / "index", pretrained=str(other.folder)).search("a red star")


def test_they_are_evaluated_and_verified(place: Path, tmp_path: Path) -> None:
    report = clipmill.evaluate(place / "embeddings", tmp_path / "report")
    assert report.zero_shot is not None
    assert [fault for found in clipmill.verify(place / "embeddings") for fault in found.faults] == []


def test_the_same_command_again_is_complete_and_another_model_is_refused(
    place: Path, scenes: Path, siglip: TinyModel, tmp_path: Path
) -> None:
    before = (place / "embeddings" / "manifest.json").read_bytes()
    clipmill.embed(scenes, place / "embeddings", model=f"transformers:{siglip.folder}")
    assert (place / "embeddings" / "manifest.json").read_bytes() == before
    with pytest.raises(UserError, match="weights"):
        clipmill.embed(scenes, place / "embeddings", model=str(tiny_model("clip", tmp_path / "clip").folder))


def embed(source: Path, output: Path, cluster: dict[str, Any], model: str) -> EmbeddingsManifest:
    settings = EmbedSettings(input=str(source), output=str(output), model=model)
    return embed_stage(settings, ClusterSettings(**cluster), Silent()).manifest


@pytest.mark.cluster
def test_a_cluster_makes_the_vectors_of_one_process(
    place: Path, scenes: Path, siglip: TinyModel, tmp_path: Path
) -> None:
    apart(embed, scenes, tmp_path / "there", {"address": "local", "cpus": 1}, str(siglip.folder))
    for part in ("images", "captions"):
        np.testing.assert_array_equal(vectors_of(place / "embeddings", part), vectors_of(tmp_path / "there", part))
