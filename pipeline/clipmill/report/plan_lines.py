"""The plan of a run in lines of text, before it and after."""

from clipmill.core.forecasts import Forecast
from clipmill.report.format import TITLES, amount_text, miss_text


def plan_lines(forecast: Forecast) -> list[str]:
    """One line per figure of a forecast, with the actual figure once there is one."""
    lines: list[str] = []
    over = any(one.actual is not None for one in forecast.figures)
    for one in forecast.figures:
        title, planned = TITLES[one.name], amount_text(one.planned, one.unit)
        if not over:
            low, high = amount_text(one.low, one.unit), amount_text(one.high, one.unit)
            lines.append(f"{title}: {planned} ({low} to {high})" + ("" if lines else f", {forecast.basis}"))
        elif one.actual is None or one.difference is None:
            lines.append(f"{title}: planned {planned}; what it was is not known of a run in several starts")
        else:
            was = amount_text(one.actual, one.unit)
            lines.append(f"{title}: planned {planned}, was {was}: {miss_text(one.difference)}")
    return lines
