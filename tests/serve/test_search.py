"""A search over HTTP finds what `clipmill.open_index` finds, and says of which version and with what promise."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

import clipmill
from clipmill.api.searching import SearchIndex
from serve.conftest import HOSTILE, ROWS, picture


@pytest.fixture(scope="module")
def index(published: Path) -> SearchIndex:
    return clipmill.open_index(published / "out")


def vectors(index: SearchIndex) -> np.ndarray:
    """All stored vectors by id number, read from the index's own files."""
    folder = Path(index.uri)
    stored = np.concatenate([np.load(file) for file in sorted(folder.glob("vectors-*.npy"))]).astype(np.float32)
    return stored


def search(client: TestClient, **asked: object) -> dict:
    answer = client.post("/v1/search", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(answer: dict) -> list[str]:
    return [result["id"] for result in answer["results"]]


def test_words_find_what_the_python_api_finds(client: TestClient, index: SearchIndex) -> None:
    answer, hits = search(client, text="a red picture", k=7), index.search("a red picture", k=7)
    assert ids(answer) == [hit.id for hit in hits]
    assert [result["score"] for result in answer["results"]] == pytest.approx([hit.score for hit in hits], abs=1e-5)
    assert [result["columns"] for result in answer["results"]] == [dict(hit.columns) for hit in hits]


@pytest.mark.parametrize("way", ["json", "form"])
def test_a_picture_finds_itself(client: TestClient, way: str) -> None:
    if way == "json":
        answer = search(client, image=base64.b64encode(picture(5)).decode(), k=1)
    else:
        sent = client.post("/v1/search", files={"image": picture(5)}, data={"request": json.dumps({"k": 1})})
        assert sent.status_code == 200, sent.text
        answer = sent.json()
    assert ids(answer) == ["picture-5"]
    assert answer["kind"] == "image"
    assert answer["results"][0]["score"] == pytest.approx(1, abs=2e-3)


def test_a_row_comes_first_when_it_is_asked_for(client: TestClient, index: SearchIndex) -> None:
    answer = search(client, id="picture-9", k=4)
    stored = vectors(index)
    best = np.argsort(-(stored @ stored[9]), kind="stable")[:4]
    assert ids(answer)[0] == "picture-9"
    assert set(ids(answer)) == {f"picture-{number}" for number in best}
    row = answer["results"][0]["row"]
    assert ids(search(client, row=row, k=4)) == ids(answer)


def test_weighted_parts_are_the_unit_vector_of_their_weighted_sum(client: TestClient, index: SearchIndex) -> None:
    stored = vectors(index)
    unit = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    query = 1.0 * stored[3] - 0.5 * stored[20] + 2.0 * unit[30]
    scores = stored @ (query / np.linalg.norm(query))
    parts = [
        {"id": "picture-3"},
        {"id": "picture-20", "weight": -0.5},
        {"vector": (3 * stored[30]).tolist(), "weight": 2.0},
    ]
    answer = search(client, query=parts, k=ROWS, include=["query"])
    found = {result["id"]: result["score"] for result in answer["results"]}
    assert answer["kind"] == "several"
    assert [found[f"picture-{number}"] for number in range(ROWS)] == pytest.approx(scores.tolist(), abs=1e-4)
    assert answer["query"] == pytest.approx((query / np.linalg.norm(query)).tolist(), abs=1e-4)


def test_parts_that_cancel_each_other_are_refused(client: TestClient) -> None:
    answer = client.post("/v1/search", json={"query": [{"id": "picture-3"}, {"id": "picture-3", "weight": -1}]})
    assert answer.status_code == 400
    assert "cancel each other out" in answer.json()["detail"]


def test_a_condition_leaves_only_rows_that_meet_it(client: TestClient) -> None:
    answer = search(client, text="green", where="label = 'odd' and year between 2010 and 2019", k=20)
    assert sorted(ids(answer)) == sorted(f"picture-{number}" for number in range(11, 20, 2))
    assert answer["rows_selected"] == 5
    assert answer["exact"]


def test_a_condition_is_bounded_in_time(client: TestClient, service: object) -> None:
    slow = "length(md5(repeat('x', 1000000))) > 1"
    answer = client.post("/v1/search", json={"text": "x", "where": slow})
    assert answer.status_code == 400, "repeat() makes answers of any size"
    assert "repeat() is not possible" in answer.json()["detail"]


def test_every_answer_says_version_kind_promise_and_time(client: TestClient, published: Path) -> None:
    answer = search(client, text="blue", k=3)
    current = json.loads((published / "out/current.json").read_text())
    assert (answer["version"], answer["manifest_sha256"]) == (current["version"], current["manifests"]["index"])
    assert (answer["kind"], answer["k"], answer["n"], answer["gallery"]) == ("text", 3, ROWS, "images")
    assert answer["recall"]["value"] == 1.0, "every vector of so small an index is compared"
    assert set(answer["milliseconds"]) == {"encode", "select", "search", "fetch", "total"}


def test_what_is_included_comes_with_each_result(client: TestClient, index: SearchIndex) -> None:
    include = ["thumbnail", "caption", "vector"]
    (result,) = search(client, id="picture-2", k=1, include=include)["results"]
    assert result["thumbnail"].startswith("data:image/jpeg;base64,")
    assert result["caption"] == "plain colour 2"
    assert result["vector"] == pytest.approx(vectors(index)[2].tolist())
    assert "columns" not in result


def test_an_item_is_a_row_with_all_that_is_known_of_it(client: TestClient) -> None:
    item = client.get("/v1/items/picture-7", params={"vector": True}).json()
    assert item["columns"]["year"] == 2007
    assert item["captions"] == ["plain colour 7", HOSTILE]
    assert item["others"] == 0
    assert len(item["vector"]) == 192


def test_columns_are_told_with_ranges_and_counts(client: TestClient) -> None:
    told = {one["name"]: one for one in client.get("/v1/indices/photos/columns").json()["columns"]}
    assert told["label"]["values"] == [["even", 24], ["odd", 24]]
    assert (told["year"]["kind"], told["year"]["low"], told["year"]["high"]) == ("range", 2000, 2047)
    assert (told["price"]["kind"], told["price"]["high"]) == ("range", 11.75)
    assert told["note"]["kind"] == "values"


def test_the_index_is_described(client: TestClient, published: Path) -> None:
    (told,) = client.get("/v1/indices").json()
    assert (told["name"], told["n"], told["followed"], told["removed"]) == ("photos", ROWS, True, 0)
    assert told["columns"] == ["label", "year", "price", "note"]


@pytest.mark.parametrize("asked", [{"index": "absent"}, {"gallery": "captions"}])
def test_an_index_that_is_not_there_is_not_found(client: TestClient, asked: dict) -> None:
    answer = client.post("/v1/search", json={"text": "x", **asked})
    assert answer.status_code == 404
    assert "there is photos" in answer.json()["detail"]
