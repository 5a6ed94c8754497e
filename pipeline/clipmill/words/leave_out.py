"""Texts without some of their rows: those that were taken down become rejects that say nothing else. No model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.schemas import ORDINAL_SHIFT, REJECTED, Reason
from clipmill.core.settings import OutputSettings
from clipmill.core.takedown import TAKEN_DOWN
from clipmill.core.text_manifests import TextsManifest
from clipmill.datasets.manifests import INPUTS_FILE
from clipmill.stage.kinds import TEXTS as KIND
from clipmill.stage.stage import Made, Stage, Work
from clipmill.words.rewriting import rewritten, tables_of
from clipmill.words.written import Written


@dataclass(frozen=True)
class LeaveOut(Stage[TextsManifest]):
    """Texts at the output, to be replaced by the same without ``rows`` (ascending)."""

    name = "caption"
    kind = KIND
    continues = False
    settings: OutputSettings
    before: Written
    rows: NDArray[np.int64]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the new texts follow from."""
        return {"leave out": self.rows.tolist(), "texts": self.before.manifest_sha256}

    def differences(self, found: TextsManifest) -> list[str]:
        """None: what is at the output is replaced."""
        return []


def leave_out(before: Written, rows: NDArray[np.int64]) -> Made[TextsManifest]:
    """Replaces a dataset of texts by the same without some rows, each of which becomes a reject."""
    settings = OutputSettings(output=before.location.uri, overwrite=True)
    stage = LeaveOut(settings, before, np.sort(rows))
    return stage.run(lambda work: _written(stage, work))


def _written(stage: LeaveOut, work: Work) -> TextsManifest:
    work.start()
    before, gone = stage.before, pa.array(stage.rows)
    texts, rejected = tables_of(before)
    paths = {entry["ordinal"]: entry["path"] for entry in storage.read_table(before.location / INPUTS_FILE).to_pylist()}
    known = {
        row: id_
        for table in (texts, rejected)
        for row, id_ in zip(table.column("row").to_pylist(), table.column("id").to_pylist(), strict=True)
    }
    nothing = {"kind": "text", "caption_index": None, "reason": Reason.REMOVED.value, "detail": TAKEN_DOWN}
    ends = [
        {"row": row, "id": known[row], "source": paths[row >> ORDINAL_SHIFT], **nothing} for row in stage.rows.tolist()
    ]
    texts, rejected = (
        table.filter(pc.invert(pc.is_in(table.column("row"), value_set=gone))) for table in (texts, rejected)
    )
    rejected = pa.concat_tables([rejected, pa.Table.from_pylist(ends, schema=REJECTED)]).sort_by(
        [("row", "ascending"), ("caption_index", "ascending")]
    )
    inputs = storage.write_bytes(work.dataset / INPUTS_FILE, storage.read_bytes(before.location / INPUTS_FILE))
    return rewritten(before.manifest, texts, rejected, inputs.sha256, work.dataset, stage.staging.token)
