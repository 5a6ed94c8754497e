"""The description of the interface as one page, without a script."""

import json
from typing import Any

from jinja2 import Environment

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The interface of this service</title>
<link rel="stylesheet" href="/page/page.css">
<main class="reference">
<h1>The interface</h1>
<p><a href="/">The page</a> asks the same. As OpenAPI: <a href="/openapi.json">openapi.json</a>. Failures are problem documents
(RFC 9457), with one sentence in <code>detail</code>.</p>
{% for one in operations %}
<section>
<h2><code>{{ one.method }} {{ one.path }}</code></h2>
<p>{{ one.summary }}. {{ one.description }}</p>
{% if one.parameters %}<table><caption>Parameters</caption><thead><tr><th scope="col">name</th><th scope="col">in</th><th scope="col">what</th></tr></thead><tbody>
{% for field in one.parameters %}<tr><th scope="row"><code>{{ field.name }}</code></th><td>{{ field.in }}</td><td>{{ field.description }}</td></tr>
{% endfor %}</tbody></table>{% endif %}
{% if one.bodies %}<p>Body: {% for body in one.bodies %}<code>{{ body }}</code>{{ ", " if not loop.last }}{% endfor %}</p>{% endif %}
<p>Answers: {% for status, text in one.answers.items() %}<code>{{ status }}</code> {{ text }}{{ "; " if not loop.last }}{% endfor %}</p>
</section>
{% endfor %}
<h2>What is sent and answered</h2>
{% for name, schema in schemas.items() %}
<section>
<h3 id="{{ name }}">{{ name }}</h3>
<p>{{ schema.description }}</p>
<table><caption>Fields of {{ name }}</caption><thead><tr><th scope="col">name</th><th scope="col">type</th><th scope="col">what</th></tr></thead><tbody>
{% for field, about in schema.properties.items() %}<tr><th scope="row"><code>{{ field }}</code></th><td>{{ about | kind }}</td><td>{{ about.description }}</td></tr>
{% endfor %}</tbody></table>
</section>
{% endfor %}
</main>
</html>
"""


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
