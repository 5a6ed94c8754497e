"""What a search setting finds is known before it is searched with: from where exact results stand by code."""

from collections.abc import Callable

import numpy as np
import pytest

from clipmill.datasets.manifests import Embeddings
from clipmill.index.build.screen import Screen
from clipmill.index.search.exact import exact_top_k
from clipmill.index.search.search import Index
from clustered import image_and_caption_vectors

N = 3000


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("factory", ["IVF32,PQ4x4fsr", "PCAR8,IVF16,SQ8", "SQ4"])
def test_the_recall_is_that_of_the_search_itself(
    clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index], factory: str, shards: int
) -> None:
    index = indexed(clustered_embeddings(N, 400), factory=factory, shards=shards).sharded
    queries = image_and_caption_vectors(150, 150, 16, seed=8)[1].astype(np.float32)
    blocks = [
        (int(start), np.asarray(part)) for start, part in zip(index.vectors.starts, index.vectors.shards, strict=False)
    ]
    truth = exact_top_k(queries, blocks, 20)[1]
    screen = Screen(index, queries, truth, 200, 1)
    for nprobe, depth, k in [(1, 20, 10), (3, 10, 10), (3, 60, 10), (16, 200, 20), (5, 20, 20)]:
        found = index.search(queries, k, nprobe=nprobe, rerank=depth)[1]
        expected = np.mean(
            [len(set(one[:k]) & set(other)) / k for one, other in zip(truth.tolist(), found.tolist(), strict=True)]
        )
        assert screen.recall(nprobe, depth, k).value == pytest.approx(expected, abs=0.004), (nprobe, depth, k)


def test_results_that_are_not_there_are_not_asked_for(
    clustered_embeddings: Callable[..., Embeddings], indexed: Callable[..., Index]
) -> None:
    index = indexed(clustered_embeddings(40, 40), factory="IVF1,PQ8x4fsr").sharded
    queries = image_and_caption_vectors(10, 10, 16, seed=8)[1].astype(np.float32)
    truth = np.argsort(-(queries @ np.asarray(index.vectors.shards[0]).astype(np.float32).T), axis=1)
    padded = np.concatenate([truth, np.full((10, 10), -1)], axis=1)
    assert Screen(index, queries, padded, 50, 1).recall(1, 50, 50).value == 1
