"""What a run was expected to take, made before it started, and what it took."""

from pydantic import AliasChoices, Field

from clipmill.core.manifests import Record


class ForecastFigure(Record):
    """A figure of a forecast, between ``low`` and ``high``; ``actual`` is what it turned out to be, null where that is not
    known. Version 0.1.0 wrote it as ``happened``."""

    name: str
    planned: float
    low: float
    high: float
    unit: str
    actual: float | None = Field(default=None, validation_alias=AliasChoices("actual", "happened"))

    @property
    def difference(self) -> float | None:
        """Planned divided by actual, minus 1."""
        return self.planned / self.actual - 1 if self.actual else None


class Forecast(Record):
    """What a run was expected to take, made before it started; ``basis`` says what the figures rest on."""

    basis: str
    figures: list[ForecastFigure]
