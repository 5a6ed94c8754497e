"""Texts about the pictures of a folder that are still there, taken along to a shorter listing of it. No model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.schemas import INPUTS
from clipmill.core.settings import OutputSettings
from clipmill.core.text_manifests import TextsManifest
from clipmill.datasets.manifests import INPUTS_FILE
from clipmill.source.input_file import InputFile
from clipmill.source.planned import digest_of_inputs
from clipmill.stage.kinds import TEXTS as KIND
from clipmill.stage.stage import Made, Stage, Work
from clipmill.storage import Location
from clipmill.words.rewriting import rewritten, tables_of
from clipmill.words.written import Written


@dataclass(frozen=True)
class CarryOver(Stage[TextsManifest]):
    """Texts about ``file``, number 0, each row of which was the one of ``rows`` (ascending) ``before``."""

    name = "caption"
    kind = KIND
    continues = False
    settings: OutputSettings
    before: Written
    file: InputFile
    rows: NDArray[np.int64]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the new texts follow from."""
        return {"carried": digest_of_inputs([self.file]), "texts": self.before.manifest_sha256}

    def differences(self, found: TextsManifest) -> list[str]:
        """Texts that are there are about the same pictures, or about others."""
        same = found.configuration.get("inputs_digest") == digest_of_inputs([self.file])
        return [] if same else ["they are about other pictures"]


def carry_over(before: Written, file: InputFile, rows: NDArray[np.int64], output: Location) -> Made[TextsManifest]:
    """Writes the texts about some rows of a listed folder to ``output``, as those about a file of these rows alone."""
    stage = CarryOver(OutputSettings(output=output.uri), before, file, rows)
    return stage.run(lambda work: _written(stage, work))


def _written(stage: CarryOver, work: Work) -> TextsManifest:
    work.start()
    file, kept = stage.file, pa.array(stage.rows)
    texts, rejected = (_renumbered(table, kept) for table in tables_of(stage.before))
    known = {"ordinal": file.ordinal, "path": file.path, "size": file.size, "etag": file.etag, "rows": file.rows}
    inputs = pa.Table.from_pylist([{**known, "captions": 0, "dead": False}], schema=INPUTS)
    sha256 = storage.write_table(work.dataset / INPUTS_FILE, inputs).sha256
    manifest = stage.before.manifest
    configuration = {**manifest.configuration, "inputs_digest": digest_of_inputs([file])}
    about = {"counts": manifest.counts.model_copy(update={"rows": file.rows}), "configuration": configuration}
    return rewritten(manifest.model_copy(update=about), texts, rejected, sha256, work.dataset, stage.staging.token)


def _renumbered(table: pa.Table, kept: pa.Array) -> pa.Table:
    """The rows that are kept, each by its place among them."""
    found = table.filter(pc.is_in(table.column("row"), value_set=kept))
    places = pc.index_in(found.column("row"), value_set=kept).cast(pa.int64())
    at = found.schema.get_field_index("row")
    return found.set_column(at, found.schema.field(at), places)
