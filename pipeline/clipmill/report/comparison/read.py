"""A report to compare: its document, and its queries where it has them."""

import hashlib
from dataclasses import dataclass

import pyarrow as pa
from pydantic import ValidationError

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.report.document import REPORT_VERSION, Report
from clipmill.report.queries import read_queries
from clipmill.report.write import REPORT_FILE
from clipmill.storage import Location


@dataclass(frozen=True)
class Opened:
    """A report, where it lies, and the sha256 of its ``report.json``."""

    location: Location
    report: Report
    sha256: str

    def queries(self) -> pa.Table | None:
        """How each query came out; None for a report that does not keep it. Raises UserError when the file is damaged."""
        part = self.report.queries
        if part is None:
            return None
        place = self.location / part.file
        try:
            if storage.sha256(place) != part.sha256:
                raise UserError(f"{place} is not the file that {REPORT_FILE} names; make the report again")
            return read_queries(place)
        except FileNotFoundError:
            raise UserError(f"{place} is missing; make the report again, with --overwrite") from None
        except (ValueError, OSError, pa.ArrowException) as error:
            raise UserError(f"{place} cannot be read ({error}); make the report again, with --overwrite") from None


def open_report(uri: str) -> Opened:
    """The report in the folder ``uri``. Raises UserError for anything else."""
    location = storage.resolve(uri)
    if location.name == REPORT_FILE:
        location = location.sibling("")
        location = Location(location.filesystem, location.path.rstrip("/"), location.uri.rstrip("/"))
    try:
        data = storage.read_bytes(location / REPORT_FILE)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{uri} has no {REPORT_FILE}, so it is no report; make one with `clipmill evaluate`") from None
    try:
        report = Report.model_validate_json(data)
    except ValidationError as error:
        raise UserError(
            f"{location / REPORT_FILE} is damaged, or was written by a newer clipmill ({error.errors()[0]['msg']}); make "
            "the report again, or upgrade clipmill"
        ) from None
    if report.schema_version > REPORT_VERSION:
        raise UserError(
            f"{location} was written by a newer clipmill (report version {report.schema_version}, this one reads up to "
            f"{REPORT_VERSION}); upgrade clipmill"
        )
    return Opened(location, report, hashlib.sha256(data).hexdigest())
