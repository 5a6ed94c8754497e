"""What is sent is checked and bounded; every failure is a problem document, and no path leads to a file."""

import base64
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from clipmill.serve.service import Service
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from serve.conftest import open_service, picture

VECTOR = [0.1] * 192


def problem(answer: object, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert set(document) == {"type", "title", "status", "detail"}
    return document["detail"]


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({}, 422, "give one of text, image, id, row, vector and query; none was given"),
        ({"text": "a", "id": "b"}, 422, "text, id was given"),
        ({"text": "a", "k": 0}, 422, "k: must be 1 or more"),
        ({"text": "a", "k": 1001}, 400, "ask for at most 1,000"),
        ({"text": "a", "colour": 1}, 422, "colour: is not known"),
        ({"text": " "}, 400, "a query text is empty"),
        ({"text": "a" * 1001}, 400, "give at most 1,000"),
        ({"text": "a", "where": "absent = 1"}, 400, "there is no column 'absent'"),
        ({"text": "a", "where": "x" * 2001}, 400, "give at most 2,000"),
        ({"text": "a", "where": "select 1"}, 400, "where 'select 1'"),
        ({"vector": [1.0, 2.0]}, 400, "2 numbers was given to an index of 192 dimensions"),
        ({"vector": [0.0] * 192}, 400, "of zeros"),
        ({"id": "absent"}, 404, "no row of the index has this id"),
        ({"row": 2**40}, 404, "no row of the index has this number"),
        ({"image": "abcde"}, 422, "image:"),
        ({"image": base64.b64encode(b"no picture").decode()}, 400, "no image that can be searched with"),
        ({"query": [{"text": "a"}] * 17}, 400, "give at most 16"),
        ({"query": [{"text": "a", "weight": 1e9}]}, 422, "weight: must be 100 or less"),
        ({"image_url": "http://169.254.169.254/"}, 422, "image_url: is not known"),
    ],
)
def test_what_cannot_be_answered_is_told_in_a_sentence(client: TestClient, asked: dict, status: int, told: str) -> None:
    assert told in problem(client.post("/v1/search", json=asked), status)


def test_other_content_is_refused(client: TestClient) -> None:
    detail = problem(client.post("/v1/search", content=b"a=1", headers={"content-type": "text/plain"}), 415)
    assert "send application/json" in detail
    problem(client.post("/v1/search", content=b"{", headers={"content-type": "application/json"}), 400)
    problem(client.post("/v1/search", content=b"[" * 100_000, headers={"content-type": "application/json"}), 400)
    problem(client.post("/v1/search", content=b'{"text": NaN}', headers={"content-type": "application/json"}), 422)
    problem(client.post("/v1/search", data={"request": "[1]"}, files={"image": b""}), 400)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(published: object) -> None:
    service = open_service(f"photos={published}/out", picture_pixels=1000)
    with TestClient(make_app(service, Access()), base_url="http://localhost") as client:
        image = base64.b64encode(picture(0)).decode()  # 64 × 48
        assert "pixels" in problem(client.post("/v1/search", json={"image": image}), 400)


def test_a_body_that_is_too_large_is_refused(published: object) -> None:
    service = open_service(f"photos={published}/out", body_bytes=1000)
    with TestClient(make_app(service, Access()), base_url="http://localhost") as client:
        problem(client.post("/v1/search", json={"text": "a" * 2000}), 413)

        def pieces() -> object:
            yield from [b'{"text": "'] + [b"a" * 500] * 4

        problem(client.post("/v1/search", content=pieces(), headers={"content-type": "application/json"}), 413)


@pytest.mark.parametrize(
    "path", ["/page/../service.py", "/page/%2e%2e/service.py", "/etc/passwd", "/page/absent.js", "/v1"]
)
def test_no_path_leads_to_another_file(client: TestClient, path: str) -> None:
    problem(client.get(path), 404)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_many_vectors_are_answered_in_binary(client: TestClient, service: Service) -> None:
    index = service.served(None).index
    queries = index.vectors_at(np.arange(8))
    answer = client.post("/v1/vectors", params={"k": 3}, content=npy(queries))
    assert answer.headers["clipmill-version"] == service.served(None).opened.version
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.column("query").to_pylist() == [number for number in range(8) for _ in range(3)]
    exact = queries @ index.vectors_at(np.arange(index.n)).T
    best = -np.sort(-exact, axis=1)[:, :3]
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    np.testing.assert_allclose(table.column("score").to_numpy().reshape(8, 3), best / lengths, atol=1e-4)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"abc", "is no .npy file"),
        (npy(np.zeros((2, 192), np.float32)), "of zeros"),
        (npy(np.ones((2, 3), np.float32)), "dimensions"),
        (npy(np.ones(192, np.float32)), "shape (192,)"),
        (npy(np.ones((2, 192), np.int64)), "of int64"),
        (npy(np.ones((2, 192), np.float32))[:-4], "another length"),
        (npy(np.array([{"a": 1}], object)), "of object"),
        (npy(np.ones((2, 192), np.float32)).replace(b"(2, 192)", b"(9e99,1)"), "is no .npy file"),
        (npy(np.ones((1025, 192), np.float32)), "at most 1,000 of 1,024"),
    ],
)
def test_vectors_that_cannot_be_searched_with_are_refused(client: TestClient, body: bytes, told: str) -> None:
    assert told in problem(client.post("/v1/vectors", content=body), 400)


def test_the_interface_describes_itself(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert {"/v1/search", "/v1/vectors", "/v1/items/{id}", "/v1/indices"} <= set(document["paths"])
    request = document["components"]["schemas"]["SearchRequest"]
    assert {"text", "image", "id", "vector", "query", "where", "k", "gallery", "include"} <= set(request["properties"])
    page = client.get("/docs").text
    assert "POST /v1/search" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://localhost", "")


def test_answers_allow_no_script_but_the_pages_own(client: TestClient) -> None:
    for path in ("/", "/docs", "/v1/indices", "/absent"):
        headers = client.get(path).headers
        policy = dict(one.strip().split(" ", 1) for one in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_metrics_count_requests_and_rows(client: TestClient, service: Service) -> None:
    client.post("/v1/search", json={"text": "red"})
    text = client.get("/metrics").text
    assert 'clipmill_requests_total{route="/v1/search",status="200"}' in text
    assert f'clipmill_index_rows{{index="photos",version="{service.served(None).opened.version}"}} 48.0' in text


def test_health_is_told_without_details(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "indices": 1, "places_that_cannot_be_read": 0}


def test_numbers_that_json_has_not_are_null(client: TestClient) -> None:
    text = client.post("/v1/search", json={"text": "red", "k": 48}).text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
