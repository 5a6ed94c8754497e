"""What ranking the queries of an evaluation takes: nearly all of its time where a dataset is large."""

from typing import Literal

from clipmill.estimate.figure import Figure
from clipmill.estimate.machine import Machine
from clipmill.index.build.cost import MATRIX_FLOPS

EVALUATION_RANGE = 2.0


def evaluation_seconds(
    images: int, captions: int, dimension: int, query_sample: int | Literal["all"], machine: Machine
) -> Figure:
    """Time of the exact ranks of captions among images and of images among captions, of ``query_sample`` queries each at
    most, on all cores."""
    asked = [count if query_sample == "all" else min(count, query_sample) for count in (captions, images)]
    pairs = float(asked[0] * images + asked[1] * captions)
    core_seconds = 2 * pairs * dimension / MATRIX_FLOPS
    value = core_seconds / machine.cores
    basis = (
        f"{core_seconds:,.0f} core seconds to rank {asked[0]:,} of {captions:,} captions among the images and {asked[1]:,} of "
        f"{images:,} images among the captions; not in the time in all"
    )
    return Figure("evaluate_seconds", value, value / EVALUATION_RANGE, value * EVALUATION_RANGE, "s", basis)
