"""What FAISS's matrix products are told of the processor.

FAISS's packages carry an OpenBLAS of 2021 (0.3.15), which takes an Intel processor that is newer than itself for one of 2004
and multiplies several times slower there than it could. Named kernels are used instead, and it looks only when it is loaded.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

_VARIABLE = "OPENBLAS_CORETYPE"
_KERNELS = {
    "SkylakeX": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "Haswell": {"avx2", "fma"},
}
"""OpenBLAS's names and the instructions that each needs, the fastest first."""


def name_kernels(cpuinfo: Path = Path("/proc/cpuinfo"), environment: MutableMapping[str, str] = os.environ) -> None:
    """Names the kernels for Intel processors, before FAISS is imported. A name that is there already stays."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return
    if "GenuineIntel" not in text:
        return
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    fitting = (name for name, needed in _KERNELS.items() if needed <= set(flags))
    if (best := next(fitting, None)) is not None:
        environment.setdefault(_VARIABLE, best)
