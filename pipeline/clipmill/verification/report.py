"""A report: its files agree, and it is about the embeddings and the index that are there."""

from pydantic import ValidationError

from clipmill import storage
from clipmill.core.environment import software
from clipmill.core.errors import ClipmillError, RunFailed, UserError
from clipmill.core.manifests import GALLERY_VECTORS, EmbeddingsManifest, IndexManifest
from clipmill.core.reporter import Reporter, Tally
from clipmill.core.text_manifests import TextsManifest
from clipmill.datasets.manifests import Manifest, read_manifest
from clipmill.evaluation.classification.templates import NAMED
from clipmill.evaluation.index_quality import K
from clipmill.report.document import PAGE_VERSION, REPORT_VERSION, Report
from clipmill.report.queries import QUERIES_FILE
from clipmill.report.texts.evaluation import counts_of
from clipmill.report.write import REPORT_FILE, SHOWN
from clipmill.storage import Location
from clipmill.verification.files import sizes_of
from clipmill.verification.findings import Findings
from clipmill.verification.parents import parent_is_there


def verify_report(uri: str, *, quick: bool, reporter: Reporter) -> Findings:
    """Checks the report at ``uri``. It is small, so ``quick`` leaves nothing out.

    The page, the table and the summary are made from ``report.json`` alone: they are made again and compared.
    """
    location = storage.resolve(uri)
    report = _read(location)
    findings = Findings("report", location.uri)
    sizes = sizes_of(location)
    hashes = {
        **({QUERIES_FILE: report.queries.sha256} if report.queries else {}),
        **(report.trec.files if report.trec else {}),
        **(report.mteb.files if report.mteb else {}),
    }
    for path in sorted(set(sizes) - {REPORT_FILE, *SHOWN, *hashes}):
        findings.fault(f"{path} does not belong to the report")
    tally = Tally(reporter, "verify", sum(sizes.values()), "B")
    for path, made in SHOWN.items():
        findings.count("files", 1)
        if path not in sizes:
            findings.fault(f"{path} is missing")
        elif storage.read_bytes(location / path) != made(report).encode():
            _tell_difference(path, report, findings)
        tally.add(sizes.get(path, 0))
    for path, digest in hashes.items():
        _check_hash(location, path, digest, sizes, findings)
        tally.add(sizes.get(path, 0))
    findings.count("files", 1)
    findings.count("figures", len(report.figures))
    if report.texts is None:
        _check_embeddings(report, findings)
    else:
        _check_texts(report, findings)
    _check_index(report, findings)
    _check_templates(report, findings)
    return findings


def _check_hash(location: Location, path: str, digest: str, sizes: dict[str, int], findings: Findings) -> None:
    findings.count("files", 1)
    if path not in sizes:
        findings.fault(f"{path} is missing")
    elif storage.sha256(location / path) != digest:
        findings.fault(f"{path} is not the one that {REPORT_FILE} names: it was altered")


def _read(location: Location) -> Report:
    """Raises RunFailed for a damaged report, UserError for one of a newer clipmill."""
    data = storage.read_bytes(location / REPORT_FILE)
    try:
        report = Report.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise RunFailed(
            f"{REPORT_FILE} is damaged, or not of version {REPORT_VERSION}: {first['msg']}{f' at {where}' if where else ''}"
        ) from None
    if report.schema_version > REPORT_VERSION:
        raise UserError(
            f"{location} was written by a newer clipmill (report version {report.schema_version}, this one reads up to "
            f"{REPORT_VERSION}); upgrade clipmill"
        )
    return report


def _tell_difference(path: str, report: Report, findings: Findings) -> None:
    """Another version of clipmill, and pages of another version, may show the same report differently."""
    made_by, here = report.software.get("clipmill"), software().get("clipmill")
    if made_by != here:
        findings.notes.append(f"{path} was made by clipmill {made_by}, this is {here}: they cannot be compared")
    elif report.page_version != PAGE_VERSION:
        findings.notes.append(
            f"{path} is of page version {report.page_version}, this clipmill makes {PAGE_VERSION}: they cannot be compared"
        )
    else:
        findings.fault(f"{path} does not show what {REPORT_FILE} holds: one of them was altered")


def _check_embeddings(report: Report, findings: Findings) -> None:
    digest = report.inputs.get("embeddings manifest")
    parent = parent_is_there("embeddings dataset", report.dataset.uri, digest, findings)
    if parent is None:
        return
    manifest = _manifest(parent, EmbeddingsManifest, findings)
    if manifest is None:
        return
    for what, told, true in (
        ("counts", report.dataset.counts, manifest.counts),
        ("dimension", report.dataset.dimension, manifest.dimension),
        ("columns", report.dataset.columns, manifest.kept_columns),
        ("model", report.model, manifest.model),
    ):
        if told != true:
            findings.fault(f"{REPORT_FILE}: the {what} of the dataset are {told}, those of the embeddings are {true}")


def _check_texts(report: Report, findings: Findings) -> None:
    parent = parent_is_there("texts", report.dataset.uri, report.inputs.get("texts manifest"), findings)
    manifest = _manifest(parent, TextsManifest, findings) if parent else None
    if manifest is not None and report.dataset.counts != counts_of(manifest):
        findings.fault(
            f"{REPORT_FILE}: the counts are {report.dataset.counts}, those of the texts are {counts_of(manifest)}"
        )


def _check_index(report: Report, findings: Findings) -> None:
    if report.fidelity is None:
        return
    told = report.fidelity
    parent = parent_is_there("index", told.uri, report.inputs.get("index manifest"), findings)
    manifest = _manifest(parent, IndexManifest, findings) if parent else None
    if manifest is None:
        return
    if manifest.embeddings_manifest_sha256 != report.inputs.get("embeddings manifest"):
        findings.fault(f"the index at {told.uri} was built over other embeddings than this report is about")
    point = (manifest.operating_point.nprobe, manifest.operating_point.rerank)
    if (told.nprobe, told.rerank) != point:  # that of the number of results which is measured
        k = min(K, manifest.n - (told.query_kind == GALLERY_VECTORS))
        point = manifest.promise_of(told.query_kind, k).at(k)
    for what, found, true in (
        ("n", told.n, manifest.n),
        ("factory", told.factory, manifest.factory),
        ("gallery", told.gallery, manifest.gallery),
        ("nprobe", told.nprobe, point[0]),
        ("rerank", told.rerank, point[1]),
    ):
        if found != true:
            findings.fault(f"{REPORT_FILE}: the index has {what} {found}, the index itself says {true}")


def _manifest(parent: Location, kind: type[Manifest], findings: Findings) -> Manifest | None:
    try:
        return read_manifest(parent, kind)
    except ClipmillError as error:
        findings.notes.append(f"{parent} cannot be compared with: {error}")
        return None


def _check_templates(report: Report, findings: Findings) -> None:
    digest, name = report.inputs.get("template file"), report.settings.get("templates")
    if digest is None or not isinstance(name, str) or name in NAMED:
        return
    place = storage.resolve(name)
    if not storage.exists(place):
        findings.notes.append(f"the template file {name} is not there to compare with")
    elif storage.sha256(place) != digest:
        findings.notes.append(f"the template file {name} was changed since")
