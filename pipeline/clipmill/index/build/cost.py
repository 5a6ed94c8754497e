"""What building takes, estimated from counts of operations: core-seconds of training and of adding. A pure function.

The constants were measured on one core with AVX-512; one without takes about twice as long.
"""

from typing import Any

import faiss

from clipmill.index.build.sample import READ_FACTOR

MATRIX_FLOPS = 1e11
"""Floating-point operations a core second where vectors are compared with the coarse centroids: products of matrices."""
COMPARISON_SECONDS = 4.2e-9
"""Comparing a sub-vector with a codeword in training, however few components they have."""
CODE_SECONDS, CODEWORD_SECONDS = 50e-9, 0.6e-9
"""Making one code of a vector that is added: for itself, and for each codeword that it is chosen from."""
COMPONENT_SECONDS = 20e-9
"""Reading one component of a vector to draw a sample, or to add it and write it to the file for re-ranking."""
CODEC_ITERATIONS, CODEC_ROWS_PER_CODEWORD = 25, 256
"""How FAISS trains the codewords of a product quantizer."""


def build_seconds(
    n: int,
    dimension: int,
    *,
    nlist: int = 0,
    m: int = 0,
    bits: int = 0,
    training_rows: int = 0,
    iterations: int = 10,
    rotated_from: int = 0,
) -> float:
    """Core-seconds to train on ``training_rows`` vectors of ``dimension`` components and to add ``n`` to the index.

    ``nlist`` coarse centroids, found in ``iterations`` of k-means, and ``m`` codes of ``bits`` each; 0: there are none.
    ``rotated_from`` is the dimension of the vectors where they are rotated to ``dimension`` first.
    """
    codewords = 1 << bits if m else 0
    compared = (iterations * training_rows + n) * nlist * dimension
    codec_rows = min(training_rows, CODEC_ROWS_PER_CODEWORD * codewords)
    codec = CODEC_ITERATIONS * codec_rows * m * codewords * COMPARISON_SECONDS
    codes = n * m * (CODE_SECONDS + codewords * CODEWORD_SECONDS)
    read = (n + min(n, READ_FACTOR * training_rows)) * max(dimension, rotated_from) * COMPONENT_SECONDS
    turned = (n + training_rows + rotated_from) * rotated_from * max(dimension, rotated_from)
    return 2 * (compared + turned) / MATRIX_FLOPS + codec + codes + read


def build_seconds_of(index: Any, n: int, training_rows: int) -> float | None:
    """The same for an untrained index; None for a kind whose training is not counted here, such as OPQ's."""
    inner = faiss.downcast_index(index)  # by another name, since it lives only as long as ``index``
    if isinstance(inner, (faiss.IndexFlat, faiss.IndexScalarQuantizer)):
        return build_seconds(n, inner.d)
    codec: dict[str, int] = {}
    if isinstance(inner, (faiss.IndexIVFPQ, faiss.IndexIVFPQFastScan)):
        codec = {"m": int(inner.pq.M), "bits": int(inner.pq.nbits)}
    elif not isinstance(inner, (faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer)):
        return None
    if not isinstance(faiss.downcast_index(inner.quantizer), faiss.IndexFlat):
        return None
    return build_seconds(
        n, inner.d, nlist=int(inner.nlist), training_rows=training_rows, iterations=int(inner.cp.niter), **codec
    )
