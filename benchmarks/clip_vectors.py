"""Vectors like those of a real CLIP model, as many as wanted: images in skewed clusters, texts off their distribution.

Both are a mean and what varies about it. Image contents lie in clusters, a few large and many small, with variances that
fall off by a fitted spectrum; a text says part of its image's content and much else, some of it in directions in which
images hardly vary. The constants are fitted on 1,126 pairs of image and text vectors of a CLIP model of fashion products.
Run as a program it prints the statistics of these pairs beside those of as many generated ones:

    python -m benchmarks.clip_vectors --pairs ../shared/data/fashion_clip_pairs
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIMENSION = 512
IMAGE_MEAN, TEXT_MEAN, MEANS_COSINE = 0.742, 0.614, 0.174
"""Norms of the means of the unit vectors, and the cosine between these means: as measured on the real pairs."""
MATCHED_COSINE, MATCHED_SPREAD = 0.531, 0.02
"""Mean cosine of a real image with its text once the means are taken away, and a spread that gives the matched cosines
about their real standard deviation: other terms add to it."""
IMAGE_SPECTRUM = (2.8, 0.68, 153.0)
TEXT_SPECTRUM = (4.2, 1.6, 130.0)
"""Offset a, power b and length c of the variance (i + a)^−b · exp(−i / c) along the i-th principal direction, from a
least-squares fit to the logarithms of the real eigenvalues (powers 1.02 and 1.17); then the powers were moved until as
many generated vectors have the effective ranks of the real ones: clusters lower that of images, and what texts say of
their images raises theirs."""
KINDS, KINDS_SHARE = 24, 0.25
CLUSTERS, CLUSTER_POWER, CLUSTERS_SHARE = 4096, 1.0, 0.6
"""Clusters lie in kinds; sizes of clusters fall off as rank^−power. Shares of the variance that lie between kinds and
between the clusters of a kind: from the cosines of the real images with their 1st, 5th, 10th and 100th nearest."""
SHARED_DIRECTIONS = 0.5
"""How far the directions of what only texts say are those of images, as a squared cosine: from the variance of the real
texts within the 32 first principal directions of the images, and from how often the right image is found first."""
BLOCK_ROWS = 16_384

Vectors = NDArray[np.float16]


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def spectrum(offset: float, power: float, length: float) -> NDArray[np.float64]:
    """Standard deviations along the principal directions, for a variance of one in all."""
    order = np.arange(DIMENSION)
    variances = (order + offset) ** -power * np.exp(-order / length)
    return np.sqrt(variances / variances.sum())


def directions(rng: np.random.Generator) -> NDArray[np.float64]:
    """An orthonormal basis at random: no component of a real vector is a principal direction."""
    return orthonormal(rng.standard_normal((DIMENSION, DIMENSION)))


def orthonormal(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthonormal basis whose rows are nearest to the given ones."""
    left, _, right = np.linalg.svd(rows)
    return left @ right


@dataclass(frozen=True)
class ClipVectors:
    """Pairs of one seed. Row i is the same however many rows are made, and in whatever blocks they are read. ``clusters`` and
    the ``power`` by which their sizes fall off are those of the real pairs unless told otherwise."""

    seed: int
    clusters: int = CLUSTERS
    power: float = CLUSTER_POWER

    @cached_property
    def _frame(self) -> dict[str, NDArray[np.float64]]:
        rng = np.random.default_rng([self.seed, 0])
        image_directions = directions(rng)
        turned = np.sqrt(SHARED_DIRECTIONS) * image_directions + np.sqrt(1 - SHARED_DIRECTIONS) * directions(rng)
        images = spectrum(*IMAGE_SPECTRUM)[:, None] * image_directions
        texts = spectrum(*TEXT_SPECTRUM)[:, None] * orthonormal(turned)
        image_mean, aside = directions(rng)[:2]
        weights = np.arange(1.0, self.clusters + 1) ** -self.power
        weights /= weights.sum()
        kinds = np.sqrt(KINDS_SHARE) * rng.standard_normal((KINDS, DIMENSION))
        clusters = np.sqrt(CLUSTERS_SHARE) * rng.standard_normal((self.clusters, DIMENSION))
        centres = kinds[np.arange(self.clusters) % KINDS] + clusters
        return {
            "images": images,
            "texts": texts,
            "image_mean": IMAGE_MEAN * image_mean,
            "text_mean": TEXT_MEAN * (MEANS_COSINE * image_mean + np.sqrt(1 - MEANS_COSINE**2) * aside),
            "centres": (centres - weights @ centres) @ images,
            "weights": weights,
        }

    def block(self, number: int) -> tuple[Vectors, Vectors]:
        """Images and their texts of the rows from ``number · BLOCK_ROWS`` on, both (BLOCK_ROWS, 512)."""
        frame = self._frame
        rng = np.random.default_rng([self.seed, 1, number])
        shape = (BLOCK_ROWS, DIMENSION)
        clusters = rng.choice(self.clusters, BLOCK_ROWS, p=frame["weights"])
        apart = np.sqrt(1 - KINDS_SHARE - CLUSTERS_SHARE) * rng.standard_normal(shape) @ frame["images"]
        contents = unit(frame["centres"][clusters] + apart)
        own = rng.standard_normal(shape) @ frame["texts"]
        own = unit(own - (own * contents).sum(axis=1, keepdims=True) * contents)
        cosines = np.clip(MATCHED_COSINE + MATCHED_SPREAD * rng.standard_normal((BLOCK_ROWS, 1)), 0, 1)
        said = cosines * contents + np.sqrt(1 - cosines**2) * own
        images = unit(frame["image_mean"] + np.sqrt(1 - IMAGE_MEAN**2) * contents)
        texts = unit(frame["text_mean"] + np.sqrt(1 - TEXT_MEAN**2) * said)
        return images.astype(np.float16), texts.astype(np.float16)

    def blocks(self, rows: int) -> Iterator[tuple[int, Vectors, Vectors]]:
        """The first row of each block with its images and texts, for ``rows`` rows in all."""
        for start in range(0, rows, BLOCK_ROWS):
            images, texts = self.block(start // BLOCK_ROWS)
            yield start, images[: rows - start], texts[: rows - start]

    def make(self, rows: int, texts: int) -> tuple[Vectors, Vectors]:
        """All ``rows`` images, and the texts of the last ``texts`` of them: no more in memory than these and a block."""
        image_vectors = np.empty((rows, DIMENSION), np.float16)
        text_vectors = np.empty((texts, DIMENSION), np.float16)
        first = rows - texts
        for start, images, captions in self.blocks(rows):
            stop = start + len(images)
            image_vectors[start:stop] = images
            if stop > first:
                text_vectors[max(start - first, 0) : stop - first] = captions[max(first - start, 0) :]
        return image_vectors, text_vectors


def effective_rank(vectors: NDArray[np.float64]) -> float:
    """Exponential of the entropy of the covariance's eigenvalues, as shares of their sum (Roy and Vetterli 2007)."""
    shares = np.linalg.eigvalsh(np.cov(vectors.T))
    shares = shares[shares > 1e-12 * shares.max()]
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def statistics(images: NDArray[np.float64], texts: NDArray[np.float64]) -> dict[str, float]:
    """What is compared: of unit vectors, row i of one belonging to row i of the other."""
    rows = len(images)
    scores = texts @ images.T
    among = images @ images.T
    np.fill_diagonal(among, -1)
    among = -np.sort(-among, axis=1)
    ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)
    basis = np.linalg.eigh(np.cov(images.T))[1][:, ::-1][:, :32]
    nearest = -np.sort(-scores, axis=1)
    return {
        "matched cosine": float(np.diag(scores).mean()),
        "unmatched cosine": float((scores.sum() - np.trace(scores)) / (rows * (rows - 1))),
        "norm of the image mean": float(np.linalg.norm(images.mean(axis=0))),
        "norm of the text mean": float(np.linalg.norm(texts.mean(axis=0))),
        "effective rank of images": effective_rank(images),
        "effective rank of texts": effective_rank(texts),
        "matched cosine, standard deviation": float(np.diag(scores).std()),
        "unmatched cosine, standard deviation": float(scores[~np.eye(rows, dtype=bool)].std()),
        "image to its nearest image": float(among[:, 0].mean()),
        "image to its 5th nearest": float(among[:, 4].mean()),
        "image to its 10th nearest": float(among[:, 9].mean()),
        "image to its 100th nearest": float(among[:, 99].mean()),
        "text to its nearest image": float(nearest[:, 0].mean()),
        "text to its 10th nearest image": float(nearest[:, 9].mean()),
        "text to its 100th nearest image": float(nearest[:, 99].mean()),
        "text to image recall@1": float((ranks < 1).mean()),
        "text to image recall@10": float((ranks < 10).mean()),
        "text variance within 32 image directions": float(np.cov((texts @ basis).T).trace() / texts.var(axis=0).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=Path("../shared/data/fashion_clip_pairs"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    columns = {}
    rows = 1126
    if arguments.pairs.is_dir():
        images, texts = (np.load(arguments.pairs / f"{part}_embeddings.npy") for part in ("image", "text"))
        rows = len(images)
        columns["real"] = statistics(images.astype(np.float64), texts.astype(np.float64))
    images, texts = ClipVectors(arguments.seed).make(rows, rows)
    columns["generated"] = statistics(images.astype(np.float64), texts.astype(np.float64))
    print(f"| {rows} pairs | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name in columns["generated"]:
        print(f"| {name} | " + " | ".join(f"{column[name]:.3f}" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
