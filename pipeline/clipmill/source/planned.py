"""What every stage that reads source files fixes and writes down of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.schemas import INPUTS, LISTING, ORDINAL_SHIFT
from clipmill.datasets.manifests import INPUTS_FILE, LISTING_FILE
from clipmill.source.footers import save_footers
from clipmill.source.input_file import InputFile
from clipmill.source.units import Units
from clipmill.stage.stage import Work
from clipmill.stage.staging import Started
from clipmill.stage.units.commit import Finished, find_finished
from clipmill.stage.units.layout import Layout
from clipmill.storage import Location

_FOOTERS = "footers.arrow"


class OverUnits(Protocol):
    """A plan of work over units of rows of source files."""

    @property
    def output(self) -> Location: ...
    @property
    def inputs(self) -> list[InputFile]: ...
    @property
    def units(self) -> Units: ...
    @property
    def rows(self) -> int: ...
    @property
    def layout(self) -> Layout[Any]: ...


@dataclass(frozen=True)
class Progress:
    """A staging folder that was opened for work: what earlier starts did, and which units are still to do."""

    start: Started
    finished: Finished
    todo: Units


def find_progress(plan: OverUnits, work: Work) -> Progress:
    """What earlier starts did and what is left to do, from the names in the staging folder that ``work`` holds."""
    save_footers(storage.staging_of(plan.output) / _FOOTERS, plan.inputs)
    finished = find_finished(plan.layout) if work.continued else Finished(frozenset(), frozenset())
    todo = plan.units.take(~finished.mask(plan.layout))
    return Progress(work.start(plan.rows - int(todo.rows.sum())), finished, todo)


def footers_of(output: str) -> Location:
    """Where what the footers of the input said is kept until the dataset is published."""
    return storage.staging_of(storage.resolve_output(output)) / _FOOTERS


def digest_of_inputs(inputs: Sequence[InputFile]) -> str:
    """sha256 over the source files: their paths, sizes, versions and rows."""
    digest = hashlib.sha256()
    for file in inputs:
        digest.update(json.dumps([file.path, file.size, file.etag, file.rows]).encode())
    return digest.hexdigest()


def refuse_output_in_input(input: str, output: str, inputs: Sequence[InputFile]) -> None:
    """Raises UserError where what is published would be read as input by the next run."""
    place = storage.resolve_output(output)
    places = [file.path.removeprefix("s3://") for file in inputs]
    folder = f"{storage.resolve(input).path.rstrip('/')}/"
    below = place.path.startswith(folder) and any(path.startswith(folder) for path in places)
    if below or place.path in places or any(path.startswith(f"{place.path}/") for path in places):
        raise UserError(
            f"--output {output} lies in the input {input}, so the next run would read it as input; choose a place outside "
            "the input"
        )


def write_inputs(inputs: Sequence[InputFile], units: Units, captions: Mapping[str, int], dataset: Location) -> str:
    """Writes ``inputs.parquet``, with the rows that units read of each file and its ``captions`` by ordinal; its sha256."""
    read = units.rows_by_ordinal(1 + max(file.ordinal for file in inputs)).tolist()
    records = [
        {
            "ordinal": file.ordinal,
            "path": file.path,
            "size": file.size,
            "etag": file.etag,
            "rows": read[file.ordinal],
            "captions": captions.get(str(file.ordinal), 0),
            "dead": False,
        }
        for file in inputs
    ]
    return storage.write_table(dataset / INPUTS_FILE, pa.Table.from_pylist(records, schema=INPUTS)).sha256


def write_listing(inputs: Sequence[InputFile], units: Units, dataset: Location) -> str | None:
    """Writes ``listing.parquet``: the pictures of listed folders that were read, with their rows; None where there are none."""
    read = units.rows_by_ordinal(1 + max(file.ordinal for file in inputs)).tolist()
    parts = [
        file.listing.slice(0, read[file.ordinal]).set_column(
            0, LISTING.field("row"), pa.array((file.ordinal << ORDINAL_SHIFT) + np.arange(read[file.ordinal]))
        )
        for file in inputs
        if file.listing is not None
    ]
    return storage.write_table(dataset / LISTING_FILE, pa.concat_tables(parts)).sha256 if parts else None
