"""Any dataset of ours: which kind it is, and what to say about a place that holds none."""

import json
from collections.abc import Callable

import pyarrow.fs as fs

from clipmill import storage
from clipmill.core.errors import RunFailed, StorageFailed, UserError, WorkersFailed
from clipmill.core.reporter import Reporter
from clipmill.datasets.manifests import MANIFEST
from clipmill.report.write import REPORT_FILE
from clipmill.storage import Location
from clipmill.verification.captioned import verify_captioned
from clipmill.verification.curated import verify_duplicates, verify_selection
from clipmill.verification.embeddings import verify_embeddings
from clipmill.verification.findings import Findings
from clipmill.verification.index import verify_index
from clipmill.verification.parallel import Looking
from clipmill.verification.report import verify_report
from clipmill.verification.source_parquet import verify_source
from clipmill.verification.texts import verify_texts

VERIFIERS: dict[str, Callable[..., Findings]] = {
    "embeddings": verify_embeddings,
    "index": verify_index,
    "duplicates": verify_duplicates,
    "selection": verify_selection,
    "report": verify_report,
    "source": verify_source,
    "texts": verify_texts,
    "captioned": verify_captioned,
}
IN_PARTS = ("embeddings", "index")
"""Kinds of which one dataset may be larger than one machine reads through: theirs are files that can be looked at anywhere."""
_KNOWN = (
    "verify knows embeddings, indices, duplicates, selections, reports, texts, captioned rows and the source Parquet that "
    "clipmill wrote"
)


def verify(uri: str, *, quick: bool, reporter: Reporter, looking: Looking | None = None) -> Findings:
    """Checks the dataset at ``uri``. Files of large kinds are looked through by ``looking``, in threads where it is None.

    A damaged manifest is a fault. Raises UserError where there is no finished dataset of a kind that verify knows.
    """
    location = storage.resolve(uri)
    kind = "unknown"
    try:
        kind = _kind_of(location)
        elsewhere = {"looking": looking} if kind in IN_PARTS else {}
        return VERIFIERS[kind](uri, quick=quick, reporter=reporter, **elsewhere)
    except (StorageFailed, WorkersFailed):
        raise  # which says nothing of the dataset
    except RunFailed as error:
        findings = Findings(kind, location.uri)
        findings.fault(str(error))
        return findings


def _kind_of(location: Location) -> str:
    """Raises RunFailed for a manifest that cannot be read as one."""
    info = location.filesystem.get_file_info(location.path)
    if info.is_file:
        raise UserError(f"{location} is a file; give the folder of the dataset")
    for name in (MANIFEST, REPORT_FILE):
        if not storage.exists(location / name):
            continue
        try:
            kind = str(json.loads(storage.read_bytes(location / name))["kind"])
        except (ValueError, KeyError, TypeError):
            raise RunFailed(f"{name} is damaged: it is not one of clipmill's, or was altered") from None
        if kind not in VERIFIERS:
            raise RunFailed(f"{name} is damaged, or of another clipmill: its kind is {kind!r}; {_KNOWN}")
        return kind
    raise UserError(_nothing_here(location, there=info.type != fs.FileType.NotFound))


def _nothing_here(location: Location, *, there: bool) -> str:
    staged = next((step for step in location.path.split("/") if step.startswith(".") and step.endswith(".staging")), "")
    if staged:
        name = staged.removeprefix(".").removesuffix(".staging")
        return (
            f"{location} is unfinished work towards {name}; run the same command again to finish it, then verify {name}"
        )
    if storage.exists(storage.staging_of(location)):
        return (
            f"{location} has no {MANIFEST}: a run towards it has not finished (its work lies in "
            f"{storage.staging_of(location).name}); run the same command again to finish it"
        )
    if not there:
        return f"{location}: there is no such folder"
    parts = [info.base_name for info in storage.list_files(location, recursive=False)]
    if parts and all(name.startswith("part-") and name.endswith(".parquet") for name in parts):
        return (
            f"{location} is source Parquet without a manifest: there is no list of what it should hold, so nothing can be "
            f"proved; {_KNOWN}"
        )
    return f"{location} has no {MANIFEST}, so it is not a finished dataset; {_KNOWN}"
