"""The description of the interface as one page, without a script."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment

_PAGE = (Path(__file__).parent / "reference.html").read_text(encoding="utf-8")


def reference_page(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML. Everything in it is escaped."""
    environment = Environment(autoescape=True)
    environment.filters["kind"] = kind_of
    operations = [
        {
            "method": method.upper(),
            "path": path,
            "summary": one.get("summary", ""),
            "description": one.get("description", ""),
            "parameters": one.get("parameters", []),
            "bodies": list(one.get("requestBody", {}).get("content", {})),
            "answers": {status: answer["description"] for status, answer in one["responses"].items()},
        }
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    ]
    schemas = {name: one for name, one in document["components"]["schemas"].items() if one.get("properties")}
    return environment.from_string(_PAGE).render(operations=operations, schemas=schemas)


def kind_of(schema: dict[str, Any]) -> str:
    """A type in words."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(kind_of(one) for one in schema[several])
    if "enum" in schema:
        return ", ".join(json.dumps(one) for one in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))
