"""The files of a report, and reading one back."""

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.report.document import REPORT_VERSION, Report
from clipmill.report.markdown import markdown_text
from clipmill.report.page import html_text
from clipmill.report.table import csv_text
from clipmill.stage.kinds import Kind
from clipmill.storage import Location

REPORT_FILE, PAGE_FILE, TABLE_FILE, MARKDOWN_FILE = "report.json", "report.html", "report.csv", "report.md"
SHOWN = {TABLE_FILE: csv_text, MARKDOWN_FILE: markdown_text, PAGE_FILE: html_text}
"""The files that show what ``report.json`` holds, and how each is made of it."""


def write_pages(report: Report, folder: Location) -> None:
    """The files that show a report. ``report.json``, which makes it exist, is written last, by its stage."""
    for name, text in SHOWN.items():
        storage.write_bytes(folder / name, text(report).encode())


def read_report(output: Location) -> Report:
    """The report at ``output``. Raises UserError for a file that is no report, or one of another version."""
    try:
        return Report.model_validate_json(storage.read_bytes(output / REPORT_FILE))
    except ValidationError as error:
        raise UserError(
            f"{output / REPORT_FILE} is not a report of version {REPORT_VERSION} ({error.errors()[0]['msg']}); "
            "choose another place, or --overwrite to replace it"
        ) from None


REPORT: Kind[Report] = Kind("report", REPORT_FILE, read_report, owns=lambda name: name.startswith("report."))
