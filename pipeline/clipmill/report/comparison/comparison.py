"""One comparison from its settings to its files: what is already there, what to compare, what to publish."""

import shlex
from typing import Any

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import CompareSettings
from clipmill.datasets.manifests import refuse_differences
from clipmill.report.comparison.compare import compare
from clipmill.report.comparison.document import COMPARISON_VERSION, Comparison
from clipmill.report.comparison.markdown import markdown_text
from clipmill.report.comparison.page import html_text
from clipmill.report.comparison.read import open_report
from clipmill.report.comparison.tasks import Sampling
from clipmill.stage import publication as publishing
from clipmill.stage.staging import Staging
from clipmill.storage import Location
from clipmill.storage.lease import owned

COMPARISON_FILE, PAGE_FILE, MARKDOWN_FILE = "comparison.json", "comparison.html", "comparison.md"
_CONTENT_SETTINGS = ("match", "bootstrap_samples", "seed")


def make_comparison(settings: CompareSettings) -> tuple[Comparison, bool]:
    """The comparison, and whether it was there already: with ``overwrite`` only where a run of the same was killed after
    it had published.

    Raises UserError for something that is no report, and OutputDiffers when another comparison is at the output.
    """
    opened = [open_report(uri) for uri in settings.reports]
    output = storage.resolve_output(settings.output)
    content: dict[str, Any] = {key: settings.model_dump(mode="json")[key] for key in _CONTENT_SETTINGS}
    reports = [[report.location.uri, report.sha256] for report in opened]
    staging = Staging(output, {"settings": content, "reports": reports})
    if _has_comparison(output) and (not settings.overwrite or staging.is_published()):
        present = _read(output)
        refuse_differences(output, _differences(present, content, reports))
        staging.drop_leftovers()
        return present, True
    sampling = Sampling(settings.bootstrap_samples, settings.seed)
    comparison = compare(opened, settings.match, sampling, _command(settings), content)
    with owned(storage.staging_of(output)) as ownership:
        staging.open(overwrite=settings.overwrite)
        storage.write_bytes(staging.dataset / MARKDOWN_FILE, markdown_text(comparison).encode())
        storage.write_bytes(staging.dataset / PAGE_FILE, html_text(comparison).encode())
        storage.write_bytes(staging.dataset / COMPARISON_FILE, comparison.model_dump_json(indent=1).encode())
        ownership.check()
        staging.publish(last=COMPARISON_FILE)
    return comparison, False


def _has_comparison(output: Location) -> bool:
    """Whether a comparison is at an output. Raises UserError when other files are there instead, which are left alone."""
    if not storage.holds_only(output, lambda name: name.startswith("comparison.")):
        return False
    return storage.is_file(output / COMPARISON_FILE) and not publishing.is_to_be_continued(output)


def _read(output: Location) -> Comparison:
    try:
        return Comparison.model_validate_json(storage.read_bytes(output / COMPARISON_FILE))
    except ValidationError as error:
        raise UserError(
            f"{output / COMPARISON_FILE} is not a comparison of version {COMPARISON_VERSION} "
            f"({error.errors()[0]['msg']}); choose another place, or --overwrite to replace it"
        ) from None


def _differences(present: Comparison, content: dict[str, Any], reports: list[list[str]]) -> list[str]:
    differences = []
    before = [[report.uri, report.sha256] for report in present.reports]
    if [uri for uri, _ in before] != [uri for uri, _ in reports]:
        differences.append(f"the reports were {', '.join(uri for uri, _ in before)}")
    elif before != reports:
        changed = [uri for (uri, _), report in zip(before, reports, strict=True) if [uri, _] != report]
        differences.append(f"{', '.join(changed)} was made anew since")
    differences += [
        f"{key} was {present.settings.get(key)} and is now {value}"
        for key, value in content.items()
        if present.settings.get(key) != value
    ]
    return differences


def _command(settings: CompareSettings) -> str:
    """The command line that makes this comparison; options at their defaults are left out."""
    words = ["clipmill", "compare", *settings.reports, "--output", settings.output]
    for name in _CONTENT_SETTINGS:
        value = getattr(settings, name)
        if value != CompareSettings.model_fields[name].default:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
