"""The schema of the run file is current, and takes what the run file takes."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from clipmill.runs.run_file import MODELS, PLACES
from clipmill.runs.schema import run_file_schema, schema_text

SCHEMA = Path(__file__).parents[2] / "docs/run.schema.json"
GOOD = """\
output: out/nightly
hook: "true"
embed: {input: photos/, limit: 10M, keep_columns: "year,source", max_rejects: 1%}
index: {memory: 24GiB, shards: auto, target_recall: 0.97}
evaluate: {slice_by: [source]}
gates: {max_rejects: 500, max_row_change: 20%}
"""


def test_the_file_in_docs_is_current() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), "run `make schema`"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(run_file_schema())


@pytest.mark.parametrize("more", ["", "cluster:\n", "index: false\nevaluate: false\n"])
def test_it_takes_a_run_file(more: str) -> None:
    document = yaml.safe_load(GOOD) | (yaml.safe_load(more) or {})
    jsonschema.validate(document, run_file_schema())


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("embed", {}),
        ("embed", {"input": "photos/", "limit": "many"}),
        ("embed", {"input": "photos/", "output": "elsewhere"}),
        ("index", {"target_recall": 1.5}),
        ("index", {"memory": "much"}),
        ("index", True),
        ("gate", {"max_rejects": "1%"}),
        ("embed", False),
    ],
)
def test_it_refuses_what_the_run_file_refuses(section: str, value: Any) -> None:
    document = yaml.safe_load(GOOD) | {section: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, run_file_schema())


def test_every_option_of_every_section_has_a_description() -> None:
    for name, model in MODELS.items():
        for field, info in model.model_fields.items():
            assert info.description or field in PLACES.get(name, ()), f"{name}.{field}"
    assert all(json.dumps(found) for found in run_file_schema()["properties"].values())
