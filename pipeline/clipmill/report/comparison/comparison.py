"""One comparison from its settings to its files: what is already there, what to compare, what to publish."""

import shlex
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import CompareSettings
from clipmill.report.comparison.compare import compare
from clipmill.report.comparison.document import COMPARISON_VERSION, Comparison
from clipmill.report.comparison.markdown import markdown_text
from clipmill.report.comparison.page import html_text
from clipmill.report.comparison.read import Opened, open_report
from clipmill.report.comparison.tasks import Sampling
from clipmill.stage.kinds import Kind
from clipmill.stage.stage import Made, Stage, Work, configuration_differences
from clipmill.storage import Location

COMPARISON_FILE, PAGE_FILE, MARKDOWN_FILE = "comparison.json", "comparison.html", "comparison.md"


def _read(output: Location) -> Comparison:
    try:
        return Comparison.model_validate_json(storage.read_bytes(output / COMPARISON_FILE))
    except ValidationError as error:
        raise UserError(
            f"{output / COMPARISON_FILE} is not a comparison of version {COMPARISON_VERSION} "
            f"({error.errors()[0]['msg']}); choose another place, or --overwrite to replace it"
        ) from None


COMPARISON = Kind("comparison", COMPARISON_FILE, _read, owns=lambda name: name.startswith("comparison."))


@dataclass(frozen=True)
class Comparing(Stage[Comparison]):
    """Reports to be compared, opened before any work."""

    name = "compare"
    kind = COMPARISON
    continues = False
    settings: CompareSettings
    opened: tuple[Opened, ...]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the comparison."""
        return {"settings": self.settings.content(), "reports": self.reports}

    @property
    def reports(self) -> list[list[str]]:
        """URI and sha256 of each report."""
        return [[report.location.uri, report.sha256] for report in self.opened]

    def differences(self, found: Comparison) -> list[str]:
        """How a comparison at the output differs from what this makes, in words."""
        told = []
        before, now = [[report.uri, report.sha256] for report in found.reports], self.reports
        if [uri for uri, _ in before] != [uri for uri, _ in now]:
            told.append(f"the reports were {', '.join(uri for uri, _ in before)}")
        elif before != now:
            changed = [old[0] for old, new in zip(before, now, strict=True) if old != new]
            told.append(f"{', '.join(changed)} was made anew since")
        return told + configuration_differences(found.settings, self.settings.content())


def make_comparison(settings: CompareSettings) -> Made[Comparison]:
    """The comparison, and whether it was there already.

    Raises UserError for something that is no report, and OutputDiffers when another comparison is at the output.
    """
    comparing = Comparing(settings, tuple(open_report(uri) for uri in settings.reports))

    def work(work: Work) -> Comparison:
        sampling = Sampling(settings.bootstrap_samples, settings.seed)
        comparison = compare(comparing.opened, settings.match, sampling, _command(settings), settings.content())
        storage.write_bytes(work.dataset / MARKDOWN_FILE, markdown_text(comparison).encode())
        storage.write_bytes(work.dataset / PAGE_FILE, html_text(comparison).encode())
        return comparison

    return comparing.run(work)


def _command(settings: CompareSettings) -> str:
    """The command line that makes this comparison; options at their defaults are left out."""
    words = ["clipmill", "compare", *settings.reports, "--output", settings.output]
    for name in settings.CONTENT:
        value = getattr(settings, name)
        if value != CompareSettings.model_fields[name].default:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
