"""Numbers, differences and sizes as every page, table and terminal prints them."""

from clipmill.evaluation.figures import Figure

TITLES = {
    "embed_seconds": "time to embed",
    "index_seconds": "time to index",
    "wall_seconds": "time in all",
    "evaluate_seconds": "time to rank for a report",
    "gpu_hours": "GPU hours",
    "feeding_cores": "cores to feed the GPUs",
    "core_hours": "core hours",
    "embedding_bytes": "embeddings, on disk or S3",
    "staging_bytes": "staging meanwhile",
    "index_memory_bytes": "index in memory",
    "index_bytes": "index, on disk or S3",
    "index_shards": "index shards",
    "object_store_bytes": "object store",
    "cost": "cost",
}
"""What each figure of a plan is called."""
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")


def value_text(figure: Figure) -> str:
    """The value alone, in the digits that suit its unit."""
    return number_text(figure.value, figure.unit)


def interval_text(figure: Figure) -> str:
    """The 95% interval, or nothing."""
    return ends_text(figure.low, figure.high, figure.unit)


def ends_text(low: float | None, high: float | None, unit: str) -> str:
    """An interval of a unit; nothing where there is none."""
    if low is None or high is None:
        return ""
    return "–".join(number_text(end, unit).rstrip("%") for end in (low, high))


def number_text(value: float, unit: str) -> str:
    """One number of a unit; proportions become per cent."""
    if unit == "proportion":
        return f"{value:.2%}"
    if unit == "ratio":
        return f"{value:.4f}"
    if unit in ("cosine", "nats"):
        return f"{value:.3f}"
    if unit == "milliseconds":
        return f"{value:.2f} ms" if value < 100 else f"{value:,.0f} ms"
    if unit == "bytes":
        return size_text(value)
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "seconds":
        return f"{value:,.1f} s"
    return f"{value:,.1f}" if value != int(value) else f"{value:,.0f}"


def signed_text(value: float, unit: str) -> str:
    """A difference of a unit with its sign; proportions in percentage points."""
    if unit == "proportion":
        text = f"{100 * abs(value):.2f}"
    elif unit == "rank":
        text = f"{abs(value):,.2f}"
    else:
        text = number_text(abs(value), unit)
    if not any(digit in text for digit in "123456789"):
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def change_text(difference: float, unit: str) -> str:
    """A difference in a sentence."""
    return signed_text(difference, unit) + (" points" if unit == "proportion" else "")


def signed_range(low: float, high: float, unit: str) -> str:
    """The 95% interval of a difference."""
    return f"{signed_text(low, unit)} to {signed_text(high, unit)}"


def p_text(p: float) -> str:
    """A p-value to three digits."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def size_text(count: float) -> str:
    """Bytes in decimal units: 24 MB is 24·10⁶."""
    power = 0
    while count >= 10_000 and power < len(_SIZES) - 1:
        count /= 1000
        power += 1
    return f"{count:,.0f} {_SIZES[power]}" if count >= 100 or power == 0 else f"{count:.1f} {_SIZES[power]}"


def miss_text(difference: float) -> str:
    """How far a plan was off what came of it, of planned divided by actual minus 1."""
    if f"{abs(difference):.1%}" == "0.0%":
        return "as planned"
    return f"{abs(difference):.1%} too {'much' if difference > 0 else 'little'} was planned"


def amount_text(number: float, unit: str) -> str:
    """A number of a plan to three digits or so; seconds and bytes in the unit that suits them."""
    if unit == "s":
        return _duration_text(number)
    if unit == "bytes":
        return _rounded_size(number)
    if unit == "shards":
        return f"{number:,.0f}"
    return f"{number:,.0f} {unit}".strip() if number >= 100 else f"{number:.3g} {unit}".strip()


def _duration_text(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _rounded_size(count: float) -> str:
    for power, unit in ((5, "PB"), (4, "TB"), (3, "GB"), (2, "MB"), (1, "KB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.3g} {unit}"
    return f"{count:.0f} bytes"


def hover_text(figure: Figure) -> str:
    """What a figure says under the pointer: its definition, all its digits and what it was measured over."""
    text = f"{figure.definition} Value {figure.value:.6g}"
    if figure.low is not None and figure.high is not None:
        text += f", 95% interval {figure.low:.6g} to {figure.high:.6g}"
    return f"{text}, n = {figure.n:,}." if figure.n is not None else f"{text}."
