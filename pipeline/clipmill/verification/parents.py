"""What a dataset was made from, compared with what is there now. It need not be there any more: then there is a note."""

from clipmill import storage
from clipmill.core.errors import ClipmillError, StorageFailed, StorageRefused
from clipmill.core.manifests import IndexManifest
from clipmill.datasets.manifests import MANIFEST
from clipmill.index.build.gallery import Gallery
from clipmill.storage import Location
from clipmill.verification.findings import Findings


def parent_is_there(what: str, uri: str, sha256: str | None, findings: Findings) -> Location | None:
    """Where the parent is, when its manifest is the one that was read then; else None, with a fault or a note."""
    try:
        parent = storage.resolve(uri)
        if not storage.exists(parent / MANIFEST):
            findings.notes.append(f"the {what} at {uri} is not there to compare with")
            return None
        if storage.sha256(parent / MANIFEST) == sha256:
            return parent
    except (ClipmillError, OSError) as error:
        findings.notes.append(f"the {what} at {uri} could not be looked at: {str(error).splitlines()[0]}")
        return None
    findings.fault(f"the {what} at {uri} is not the one that this was made from: it was made anew or altered")
    return None


def embeddings_of(manifest: IndexManifest, findings: Findings) -> Gallery | None:
    """The rows that an index was built over, when they are there, unaltered as far as their lists tell."""
    parent = parent_is_there("embeddings dataset", manifest.embeddings, manifest.embeddings_manifest_sha256, findings)
    if parent is None:
        return None
    try:
        gallery = Gallery.open(parent.uri, manifest.gallery)
    except (StorageFailed, StorageRefused):
        raise
    except ClipmillError as error:
        findings.fault(f"the embeddings that this index was built over are damaged: {error}")
        return None
    before = len(findings.faults)
    for what, found, expected in (
        ("rows", manifest.n, gallery.n),
        ("dimensions", manifest.dimension, gallery.dimension),
        ("kept columns", manifest.kept_columns, gallery.kept_columns),
        ("model", manifest.model, gallery.dataset.manifest.model),
    ):
        if found != expected:
            findings.fault(f"the manifest's {what} ({found}) are not those of the embeddings ({expected})")
    return gallery if len(findings.faults) == before else None
