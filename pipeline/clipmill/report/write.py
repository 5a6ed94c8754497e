"""The files of a report, and reading one back."""

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.report.document import REPORT_VERSION, Report
from clipmill.report.markdown import markdown_text
from clipmill.report.page import html_text
from clipmill.report.table import csv_text
from clipmill.stage import publication as publishing
from clipmill.stage.staging import Staging
from clipmill.storage import Location

REPORT_FILE, PAGE_FILE, TABLE_FILE, MARKDOWN_FILE = "report.json", "report.html", "report.csv", "report.md"
SHOWN = {TABLE_FILE: csv_text, MARKDOWN_FILE: markdown_text, PAGE_FILE: html_text}
"""The files that show what ``report.json`` holds, and how each is made of it."""


def publish_report(report: Report, staging: Staging) -> None:
    """Writes the report beside its output and puts it there at once; ``report.json`` makes it exist.

    The file of its queries, if it has one, is written before (`clipmill.report.queries`).
    """
    for name, text in SHOWN.items():
        storage.write_bytes(staging.dataset / name, text(report).encode())
    storage.write_bytes(staging.dataset / REPORT_FILE, report.model_dump_json(indent=1).encode())
    staging.publish(last=REPORT_FILE)


def has_report(output: Location) -> bool:
    """Whether a report is at an output. Raises UserError when other files are there instead, which are left alone.

    Some files of a report, or of two, are none: a run was killed while it published on S3.
    """
    if not storage.holds_only(output, lambda name: name.startswith("report.")):
        return False
    return storage.is_file(output / REPORT_FILE) and not publishing.is_to_be_continued(output)


def read_report(output: Location) -> Report:
    """The report at ``output``. Raises UserError for a file that is no report, or one of another version."""
    try:
        return Report.model_validate_json(storage.read_bytes(output / REPORT_FILE))
    except ValidationError as error:
        raise UserError(
            f"{output / REPORT_FILE} is not a report of version {REPORT_VERSION} ({error.errors()[0]['msg']}); "
            "choose another place, or --overwrite to replace it"
        ) from None
