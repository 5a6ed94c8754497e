"""Products of many vectors with many by torch on a device, where they are asked for on a GPU: in tiles of bounded memory.

FAISS and numpy compute the same on cores. Sums are in float32 here too, so results agree but for rounding. torch is imported
where something is computed, since a process that imports it takes seconds of a core to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import RunFailed
from clipmill.core.gpus import fake_gpus, torch_and_driver, torch_sees_cuda

if TYPE_CHECKING:
    import torch

    from clipmill.core.settings import Products

TILE_BYTES = 256 << 20
"""Of products at a time: enough to keep a GPU busy for a millisecond, and little beside the memory of any."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def device_for(products: Products) -> torch.device | None:
    """The GPU of this process where one is asked for; None: cores, by FAISS and numpy. Raises RunFailed where there is none."""
    if products != "gpu":
        return None
    import torch

    if torch_sees_cuda():
        return torch.device("cuda")
    if fake_gpus():
        return torch.device("cpu")
    raise RunFailed(
        f"--products gpu: this process finds no CUDA ({torch_and_driver()}); CUDA 13 needs driver 580 or newer, and a "
        "container NVIDIA's toolkit. Mend the node, or give --products cpu"
    )


def top_k(
    queries: NDArray[np.float32], vectors: NDArray[np.floating], k: int, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``k`` greatest inner products of each query (q, d) with some vectors (rows, d): scores (q, k) float32 in falling
    order, and rows (q, k) int64. ``k`` is at most the number of vectors, all are finite; which of equal scores at the edge is
    not said."""
    scores, found = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    with in_float32():
        asked, there = moved(queries, device), moved(vectors, device)
        for rows in tiles(len(queries), len(vectors)):
            best = (asked[rows] @ there.T).topk(k, dim=1)
            scores[rows], found[rows] = best.values.cpu().numpy(), best.indices.cpu().numpy()
    return scores, found


def nearest(vectors: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """The centroid (c, d) with the greatest inner product for each vector (n, d): int64 (n,), on their device."""
    import torch

    found = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    with in_float32():
        for rows in tiles(len(vectors), len(centroids)):
            found[rows] = (vectors[rows] @ centroids.T).argmax(dim=1)
    return found


def pairs_reaching(
    one: NDArray[np.float32], other: NDArray[np.float32], least: float, device: torch.device
) -> Callable[[NDArray[np.int64], NDArray[np.int64]], Pairs]:
    """What tells of some rows (r,) of ``one`` (n, d) and some (c,) of ``other`` which pairs of them have an inner product of
    ``least`` or more. Both are moved once; the products of one call are r × c, on the device."""
    here = moved(one, device)
    there = here if other is one else moved(other, device)

    def reaching(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Pairs:
        with in_float32():
            products = here[moved(rows, device)] @ there[moved(columns, device)].T
        first, second = (places.cpu().numpy() for places in (products >= least).nonzero(as_tuple=True))
        return rows[first], columns[second]

    return reaching


def moved(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array on the device: numbers of 16 bits are copied as they are and widened to float32 there."""
    import torch

    there = torch.tensor(values, device=device)
    return there.float() if there.is_floating_point() else there


def tiles(rows: int, columns: int) -> Iterator[slice]:
    """Runs of so many rows whose products with so many columns take TILE_BYTES at most, or one row where that takes more."""
    step = max(1, TILE_BYTES // (4 * max(1, columns)))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


@contextmanager
def in_float32() -> Iterator[None]:
    """GPUs multiply in 19 bits where the environment says so, as that of NVIDIA's containers does; cosines are compared to six
    digits here."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
