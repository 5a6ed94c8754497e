"""Whether a finished dataset that was made from embeddings is already what is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from clipmill.core.schemas import DuplicatesManifest, IndexManifest, SelectionManifest
from clipmill.datasets.manifests import has_manifest, read_manifest, read_shards, refuse_differences
from clipmill.stage.staging import Staging

Derived = TypeVar("Derived", IndexManifest, DuplicatesManifest, SelectionManifest)


def finished_as_asked(
    kind: type[Derived],
    staging: Staging,
    configuration: Mapping[str, Any],
    embeddings_sha256: str,
    *,
    overwrite: bool,
    inputs: Mapping[str, str | None] | None = None,
) -> Derived | None:
    """The manifest at the output, if it was made with this configuration from these embeddings; None where there is none.

    ``inputs`` are other fields of the manifest that must agree, each the sha256 of what was read. With ``overwrite`` a
    dataset counts only where a run of this plan was killed after it had published.

    Raises OutputDiffers, saying what differs, when another dataset of this kind is there, and RunFailed when its list of
    files is missing or altered.
    """
    output = staging.output
    if not has_manifest(output, kind) or (overwrite and not staging.is_published()):
        return None
    manifest = read_manifest(output, kind)
    refuse_differences(output, _differences(manifest, configuration, embeddings_sha256, inputs or {}))
    read_shards(output, manifest.shards_sha256)
    return manifest


def _differences(
    manifest: IndexManifest | DuplicatesManifest | SelectionManifest,
    configuration: Mapping[str, Any],
    embeddings_sha256: str,
    inputs: Mapping[str, str | None],
) -> Sequence[str]:
    found = []
    if manifest.embeddings_manifest_sha256 != embeddings_sha256:
        found.append(f"the embeddings are not those of {manifest.embeddings}, or were made anew")
    for key, value in configuration.items():
        if manifest.configuration.get(key) != value:
            found.append(f"{key}: was {manifest.configuration.get(key)}, now {value}")
    for name, digest in inputs.items():
        if getattr(manifest, name) != digest:
            found.append(f"the {name.removesuffix('_manifest_sha256')} are others, or were made anew")
    return found
