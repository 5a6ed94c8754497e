"""How a dataset that was made from embeddings differs from what is asked for now."""

from collections.abc import Mapping
from typing import Any, Protocol

from clipmill.stage.stage import configuration_differences


class Derived(Protocol):
    """The manifest of a dataset that was made from embeddings."""

    @property
    def configuration(self) -> dict[str, Any]: ...
    @property
    def embeddings(self) -> str: ...
    @property
    def embeddings_manifest_sha256(self) -> str: ...


def differences_of_derived(
    found: Derived,
    configuration: Mapping[str, Any],
    embeddings_sha256: str,
    inputs: Mapping[str, str | None] | None = None,
) -> list[str]:
    """Each difference in words; empty where the dataset is what is asked for.

    ``inputs`` are other fields of the manifest that must agree, each the sha256 of what was read.
    """
    told = []
    if found.embeddings_manifest_sha256 != embeddings_sha256:
        told.append(f"the embeddings are not those of {found.embeddings}, or were made anew")
    told += configuration_differences(found.configuration, configuration)
    for name, digest in (inputs or {}).items():
        if getattr(found, name) != digest:
            told.append(f"the {name.removesuffix('_manifest_sha256')} are others, or were made anew")
    return told
