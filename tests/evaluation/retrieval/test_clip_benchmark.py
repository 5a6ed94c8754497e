"""Recall with several captions an image is what CLIP_benchmark's own functions give."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from captioned import pairs
from clipmill.evaluation.retrieval.retrieval import retrieve
from clipmill.evaluation.vectors import Vectors

oracle = pytest.importorskip(
    "clip_benchmark.metrics.zeroshot_retrieval",
    reason="clip-benchmark is not installed: pip install --no-deps clip-benchmark==1.6.1",
)
FLICKR = Path(__file__).parents[3] / "../shared/data/flickr8k"


def check(images: NDArray[np.float16], captions: NDArray[np.float16], rows: NDArray[np.int64]) -> None:
    import torch

    scores = torch.from_numpy(captions.astype(np.float64)) @ torch.from_numpy(images.astype(np.float64)).T
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(scores)), torch.from_numpy(rows)] = True
    sides = Vectors(np.arange(len(images)), images), Vectors(rows, captions)
    for direction, queries, gallery, matrix, right in (
        ("t2i", sides[1], sides[0], scores, positive),
        ("i2t", sides[0], sides[1], scores.T, positive.T),
    ):
        found = retrieve(direction, queries, gallery, samples=0)
        assert found is not None
        for k in (1, 5, 10):
            recall = oracle.batchify(oracle.recall_at_k, matrix, right, 64, "cpu", k=k)
            assert found[0].recall(k) == pytest.approx((recall > 0).float().mean().item(), abs=1e-6)
            assert found[0].true_recall(k) == pytest.approx(recall.double().mean().item(), abs=1e-6)


@pytest.mark.parametrize("noise", [2.0, 8.0])
def test_recall_both_ways_is_that_of_clip_benchmark(noise: float) -> None:
    check(*pairs(200, 5, 64, noise=noise))


@pytest.mark.skipif(not FLICKR.exists(), reason="Flickr8k is not at hand")
def test_recall_over_the_captions_of_flickr8k_is_that_of_clip_benchmark() -> None:
    """The structure of its captions, with vectors that words give: which captions an image has is what is tested."""
    (file, *_) = sorted(FLICKR.glob("*val*.parquet"))
    said = pq.read_table(file, columns=["caption"]).column(0).to_pylist()[:200]
    rows = np.repeat(np.arange(len(said)), [len(captions) for captions in said])
    words = {word for captions in said for text in captions for word in text.lower().split()}
    random = np.random.default_rng(0)
    meaning = {word: random.standard_normal(128) for word in sorted(words)}
    texts = np.array([sum(meaning[word] for word in text.lower().split()) for captions in said for text in captions])
    texts += 0.1 * random.standard_normal(texts.shape)
    images = np.array([texts[rows == row].mean(axis=0) for row in range(len(said))])
    images += 2.0 * random.standard_normal(images.shape)

    def unit(vectors: NDArray[np.float64]) -> NDArray[np.float16]:
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)

    check(unit(images), unit(texts), rows)
