"""Whether stored vectors are sound: finite, and of unit length within the rounding to float16."""

import numpy as np
from numpy.typing import NDArray

from clipmill.verification.findings import Findings

UNIT_TOLERANCE = 2e-3


def check_unit_length(vectors: NDArray[np.float16], rows: NDArray[np.int64], where: str, findings: Findings) -> None:
    """A fault for each of ``vectors`` (n, d) that is not of unit length; ``rows`` (n,) name them."""
    with np.errstate(all="ignore"):
        single = vectors.astype(np.float32)
        length = np.sqrt(np.einsum("nd,nd->n", single, single))
        wrong = np.flatnonzero(~(np.abs(length - 1) <= UNIT_TOLERANCE))
    for index in wrong.tolist():
        found = f"is of length {length[index]:.4g}, not 1" if np.isfinite(length[index]) else "holds NaN or infinity"
        findings.fault(f"{where}: the vector of row {rows[index]} {found}")
    findings.count("vectors", len(vectors))
