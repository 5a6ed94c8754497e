"""What limited a run: which stage decided how long it took, how busy the encoders were, and what to change."""

from collections import Counter
from dataclasses import dataclass

from clipmill.embedding.statistics import Statistics

_BUSY = 0.2
"""Share of the time below which not even the busiest stage decided how long a run took: workers were being started."""
_FULL = 0.8
"""Share of the encoders' time from which on encoding is the limit."""

_NOTHING = "nothing: all rows were done before"
_ADVICE = {
    "reading": "store the input closer to the workers, or use more CPU cores to read more files in parallel",
    "decoding": "use more CPU cores, or store the images closer to the size that the model takes",
    "copying": "give each node more CPU cores and a larger object store",
    "writing": "store the output closer to the workers, or leave out --thumbnails and unneeded columns (--keep-columns)",
    "start-up": "nothing: starting the workers took longer than the work itself, a share that falls with more rows",
}

_BY_GPU = "have cores decode (--decode cpu), or store the images closer to the size that the model takes"


@dataclass(frozen=True)
class Limits:
    """``stage`` is reading, decoding, copying, encoding, writing or start-up; ``encoder_busy`` the share of the time from
    the first picture to the last that encoders computed, 0 to 1, None where nothing was encoded; ``advice`` one sentence.
    """

    stage: str
    encoder_busy: float | None
    advice: str


def limits_of(
    run: Statistics, wall: float, encoders: int, *, gpus: bool, precisions: set[str], decodes: bool = False
) -> Limits:
    """Of one run of ``wall`` seconds. ``precisions`` are those that its encoders computed with; with ``decodes`` they decoded
    too."""
    stage = limited_by(run.seconds, wall, encoders)
    busy = None
    if run.encoding_from is not None and run.encoding_until is not None:
        available = encoders * max(run.encoding_until - run.encoding_from, 1e-9)
        busy = round(min(1.0, _encoding(run.seconds) / available), 3)
    advice = _for_encoding(gpus, precisions) if stage == "encoding" else _ADVICE.get(stage, "")
    if stage == "decoding" and gpus:
        advice = _BY_GPU if decodes else f"{advice}, or have the GPUs decode (--decode gpu, which was not measured yet)"
    return Limits(stage, busy, advice)


def limited_by(seconds: Counter[str], wall: float, encoders: int) -> str:
    """The stage that decided how long the run took: start-up where no stage was busy a fifth of the time, encoding where
    the encoders were busy most of it, else the stage that took the most worker seconds.
    """
    encoding = _encoding(seconds)
    stages = {
        "reading": seconds["read"],
        "decoding": seconds["decode"] + seconds["tokenise"],
        "copying": seconds["copy"],
        "encoding": encoding,
        "writing": seconds["write"] + seconds["compact"],
    }
    if not any(stages.values()):
        return _NOTHING
    if wall and max(stages.values()) < _BUSY * wall * encoders:
        return "start-up"
    if wall and encoding > _FULL * wall * encoders:
        return "encoding"
    return max(stages, key=lambda stage: stages[stage])


def _encoding(seconds: Counter[str]) -> float:
    return seconds["encode_images"] + seconds["encode_captions"]


def _for_encoding(gpus: bool, precisions: set[str]) -> str:
    if gpus:
        faster = " or use --precision bf16" if "fp32" in precisions else ""
        return f"the GPUs are fully used; add GPUs{faster}"
    faster = ", or use --precision int8 (bf16 on a processor that has it)" if "fp32" in precisions else ""
    return f"the CPU cores are fully used; add cores or a GPU{faster}"
