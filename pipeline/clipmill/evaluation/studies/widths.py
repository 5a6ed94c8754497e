"""What shorter vectors would lose: the first components of those that are there, scaled to unit length again.

For models that are trained to be cut (Matryoshka; Kusupati and others 2022) this is what `clipmill embed --dimension` stores;
for others it tells what cutting costs. One embedding is enough for all widths.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.evaluation.results import RobustnessPart, VariationPart
from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.studies.space import unit
from clipmill.evaluation.studies.variations import Asked, ask, compare
from clipmill.evaluation.vectors import IN_MEMORY, Vectors, blocks, let_go

_BLOCK = 8192


def check_widths(widths: Sequence[int], dimension: int) -> None:
    """Raises UserError for a width that is none of vectors of this dimension, or that is given twice."""
    for width in widths:
        if not 1 <= width < dimension:
            raise UserError(f"--widths {width}: the vectors have {dimension} components, so give numbers below that")
    if len(set(widths)) < len(widths):
        raise UserError(f"--widths {','.join(map(str, widths))} names a width twice")


def measure_widths(
    images: Vectors,
    captions: Vectors,
    asked: Asked,
    widths: Sequence[int],
    scratch: Path,
    samples: int,
    seed: int,
    progress: Callable[[int], object] = lambda done: None,
) -> RobustnessPart:
    """R@1 both ways and acc1 with all components (``clean``) and with the first of each width, widest first, on the queries
    that are ``asked``; changes are paired differences. ``scratch`` takes what is too large for memory.
    """
    before = ask(images, captions, asked)
    return RobustnessPart(
        clean=[figure.figure for figure in before.values()],
        variations=[
            _measured(width, images, captions, asked, before, scratch, samples, seed, progress)
            for width in sorted(widths, reverse=True)
        ],
    )


def _measured(
    width: int,
    images: Vectors,
    captions: Vectors,
    asked: Asked,
    before: dict[str, ByQuery],
    scratch: Path,
    samples: int,
    seed: int,
    progress: Callable[[int], object],
) -> VariationPart:
    with TemporaryDirectory(dir=scratch) as folder:
        narrow = [cut(side, width, Path(folder) / f"{name}.npy") for name, side in (("i", images), ("c", captions))]
        figures = ask(narrow[0], narrow[1], _with_classes(asked, width))
    progress(1)
    share = f"{width / images.dimension:.0%} of the components"
    return compare(str(width), figures, before, samples, seed, amount=share)


def _with_classes(asked: Asked, width: int) -> Asked:
    """The same queries with class vectors that are cut likewise, from the means of their prompts."""
    if asked.classes is None:
        return asked
    vectors = unit(asked.classes.vectors[:, :width]).astype(np.float32)
    return replace(asked, classes=replace(asked.classes, vectors=vectors))


def cut(vectors: Vectors, width: int, file: Path) -> Vectors:
    """The first ``width`` components of each vector, of unit length again, float16; in ``file`` where they are many."""
    shape = (len(vectors), width)
    values: NDArray[np.float16]
    if shape[0] * width * 2 > IN_MEMORY:
        values = np.lib.format.open_memmap(file, "w+", np.float16, shape)
    else:
        values = np.empty(shape, np.float16)
    for part in blocks(len(vectors), _BLOCK):
        values[part] = unit(vectors.values[part, :width])
        let_go(values)
        let_go(vectors.values)
    return Vectors(vectors.rows, values)
