"""Training: a rotation before the lists keeps inner products, and makes codes of the same bytes finer for CLIP vectors."""

import faiss
import numpy as np

from clipmill.index.build.train import codebook_sha256, train_index
from clustered import unit


def flat_in_few_directions(n: int, dimension: int, seed: int) -> np.ndarray:
    """Unit vectors around a mean, which differ in a quarter of the directions."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0][: dimension // 4]
    contents = unit(rng.standard_normal((n, dimension // 4)) @ basis)
    mean = unit(rng.standard_normal(dimension))
    return unit(0.74 * mean + 0.67 * contents).astype(np.float16)


def test_a_rotation_keeps_inner_products_and_takes_no_mean_away() -> None:
    vectors = flat_in_few_directions(4000, 64, seed=0)
    queries = unit(np.random.default_rng(1).standard_normal((50, 64))).astype(np.float32)
    for factory in ("PCAR24,IVF16,PQ12x4fsr", "PCA24,IVF16,PQ12x4fsr"):
        index = train_index(factory, 64, vectors, seed=0)
        rotate = faiss.downcast_VectorTransform(index.chain.at(0)).apply
        found = rotate(queries) @ rotate(vectors[:100].astype(np.float32)).T
        np.testing.assert_allclose(found, queries @ vectors[:100].astype(np.float32).T, atol=5e-3)


def test_fewer_bytes_of_codes_find_more_after_the_rotation() -> None:
    vectors = flat_in_few_directions(8000, 64, seed=2)
    queries = (vectors[::80].astype(np.float32) + 0.1 * np.random.default_rng(3).standard_normal((100, 64))).astype(
        "f4"
    )
    exact = np.argsort(-(queries @ vectors.astype(np.float32).T), axis=1)[:, :10]
    recall = []
    for factory in ("IVF16,PQ16x4fsr", "PCAR24,IVF16,PQ12x4fsr"):  # 8 and 6 bytes per vector
        index = train_index(factory, 64, vectors, seed=0)
        index.add(vectors.astype(np.float32))
        faiss.extract_index_ivf(index).nprobe = 16
        found = index.search(queries, 20)[1]
        recall.append(np.mean([np.isin(one, other).mean() for one, other in zip(exact, found, strict=True)]))
    assert recall[1] > recall[0] + 0.05


def test_the_rotation_belongs_to_the_identity_of_a_training_and_is_the_same_for_the_same_seed() -> None:
    vectors = flat_in_few_directions(2000, 32, seed=4)
    faiss.omp_set_num_threads(1)
    one, same, other = (train_index("PCAR8,IVF16,SQ8", 32, vectors, seed=seed) for seed in (0, 0, 1))
    assert codebook_sha256(one) == codebook_sha256(same) != codebook_sha256(other)
