"""The interface's description (OpenAPI): what FastAPI finds itself, and the bodies that are read by hand."""

from typing import Any

from fastapi import FastAPI

from clipmill.serve.answers.request import SearchRequest

_REFERENCE = "#/components/schemas/{model}"
_SEARCH = {"$ref": _REFERENCE.format(model="SearchRequest")}
SEARCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _SEARCH, "example": {"text": "two dogs on a beach", "k": 5}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "request": {"type": "string", "description": "Further fields of a search, as JSON."},
                    },
                }
            },
        },
    }
}
VECTORS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def describe(app: FastAPI, *, with_tokens: bool) -> None:
    """Lets the application describe itself whole."""
    plain = app.openapi

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schema = SearchRequest.model_json_schema(ref_template=_REFERENCE)
            schemas.update(schema.pop("$defs", {}))
            schemas["SearchRequest"] = schema
            if with_tokens:
                document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                document["security"] = [{"token": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = whole  # type: ignore[method-assign]
