"""Requests made from the interface's own description never break the service, and answers are as it describes them."""

from contextlib import suppress

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

LOCAL = {"Host": "localhost"}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_of_the_description_is_a_failure_of_the_service(client: TestClient, mode: GenerationMode) -> None:
    """Whether requests are as described or not: status codes, content types and bodies of the answers are."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app, headers=LOCAL)
    tried = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            tried.append(case.path)
            case.call_and_validate(headers=LOCAL, checks=CHECKS)

        with suppress(Unsatisfiable):  # of a request without parameters none is wrong
            check()
    assert {"/v1/search", "/v1/vectors", "/v1/items/{id}"} <= set(tried)
