"""Differences as the page, the summary and the terminal print them."""

from clipmill.report.comparison.document import Change
from clipmill.report.format import number_text


def signed(value: float, unit: str) -> str:
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


def change_text(change: Change) -> str:
    """The difference of a figure, in words."""
    return signed(change.difference, change.unit) + (" points" if change.unit == "proportion" else "")


def range_text(change: Change) -> str:
    """Its 95% interval."""
    return f"{signed(change.low, change.unit)} to {signed(change.high, change.unit)}"


def p_text(p: float) -> str:
    """A p-value in three digits."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
