"""What others published of open_clip's models: quality on public datasets, by weights, and cost, by architecture.

The data lies in ``published_clip.csv`` beside this file: fractions, GFLOPs of an image or text, parameters in millions.
"""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

SOURCE = (
    "open_clip, docs/openclip_results.csv, docs/openclip_retrieval_results.csv and docs/model_profile.csv, "
    "commit 89fb801f"
)
_FILE = Path(__file__).parent / "published_clip.csv"


@cache
def published_by_weights() -> Mapping[tuple[str, str], dict[str, str]]:
    """The rows by model and tag, in the order of the file."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {(row["model"], row["pretrained"]): row for row in rows}


@cache
def published_by_model() -> Mapping[str, dict[str, str]]:
    """A row for each architecture, for what does not depend on the weights."""
    return {model: row for (model, _), row in published_by_weights().items()}
