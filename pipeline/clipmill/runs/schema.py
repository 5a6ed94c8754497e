"""The JSON schema of the run file, made from the settings: editors complete and check a file by it.

A file names it in its first line:  # yaml-language-server: $schema=https://…/docs/run.schema.json
"""

import json
from typing import Any

from clipmill.core.settings import Settings
from clipmill.runs.run_file import MODELS, OPTIONAL, PLACES

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_OUTPUT = "Folder that versions are published to; local or s3://."
_HOOK = "A command line that is run when the run has ended, however it ended."


def run_file_schema() -> dict[str, Any]:
    """The schema: a section a stage with its options, as far as users set them."""
    sections = {name: _section(name, model) for name, model in MODELS.items()}
    return {
        "$schema": _DRAFT,
        "title": "Run file of clipmill run",
        "type": "object",
        "properties": {
            "output": {"type": "string", "description": _OUTPUT},
            "hook": {"type": "string", "description": _HOOK},
            **sections,
        },
        "required": ["output", "embed"],
        "additionalProperties": False,
    }


def schema_text() -> str:
    """The schema as it lies in docs/run.schema.json."""
    return json.dumps(run_file_schema(), indent=2, ensure_ascii=False) + "\n"


def _section(name: str, model: type[Settings]) -> dict[str, Any]:
    left_out = (*PLACES.get(name, ()), "overwrite")
    whole = model.model_json_schema()
    options = {option: _option(found) for option, found in whole["properties"].items() if option not in left_out}
    section: dict[str, Any] = {
        "type": ["object", "null"],
        "description": whole["description"],
        "properties": options,
        "additionalProperties": False,
    }
    required = [option for option in whole.get("required", ()) if option in options]
    if required:
        section |= {"type": "object", "required": required}
    if name in OPTIONAL:
        return {"anyOf": [section, {"const": False, "description": "This stage is left out."}]}
    return section


def _option(found: dict[str, Any]) -> dict[str, Any]:
    """An option without the title that pydantic makes of its name; a default of None needs no word."""
    return {key: value for key, value in found.items() if key != "title" and (key, value) != ("default", None)}
