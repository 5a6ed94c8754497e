"""Searches that are kept can be asked again, hold nothing of who asked, and are never too many."""

from datetime import timezone
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

import clipmill.serve.web.log as kept
from clipmill.core.errors import UserError
from clipmill.serve.service import Service
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from clipmill.serve.web.log import QueryFile, open_query_log
from serve.conftest import clipmill


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    assert open_query_log(None, 192) is None


def test_what_was_asked_is_kept_and_can_be_asked_again(service: Service, published: Path, tmp_path: Path) -> None:
    file = tmp_path / "queries.parquet"
    app = make_app(service, Access(), queries=QueryFile(str(file), 192))
    with TestClient(app, base_url="http://localhost", headers={"User-Agent": "somebody"}) as client:
        client.post("/v1/search", json={"text": "a red picture", "k": 3})
        client.post("/v1/search", json={"id": "picture-7", "k": 5})
        client.post("/v1/search", json={"text": "not answered", "k": 10**6})
    rows = pq.read_table(file).to_pylist()
    assert [(row["kind"], row["k"], row["text"]) for row in rows] == [("text", 3, "a red picture"), ("id", 5, None)]
    assert set(rows[0]) == {"time", "kind", "k", "text", "embedding"}
    assert rows[0]["time"].tzinfo is not None
    assert rows[0]["time"].astimezone(timezone.utc).year >= 2024
    index = service.served(None).index
    np.testing.assert_allclose(rows[1]["embedding"], index.vectors_at(np.array([7]))[0], atol=1e-6)
    assert b"somebody" not in file.read_bytes()
    place = published / "out"
    clipmill("search", "--index", place, "--queries", file, "--output", tmp_path / "found.parquet", "-k", 1)
    assert pq.read_table(tmp_path / "found.parquet").column("id").to_pylist()[1] == "picture-7"


def test_what_is_in_the_file_already_stays(tmp_path: Path) -> None:
    for number in range(2):
        log = QueryFile(str(tmp_path / "q.parquet"), 4)
        log.add("text", 10, f"query {number}", np.full((1, 4), 0.5, np.float32))
        log.close()
    assert pq.read_table(tmp_path / "q.parquet").column("text").to_pylist() == ["query 0", "query 1"]


def test_of_too_many_a_random_share_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_MOST_ROWS", 50)
    log = QueryFile(str(tmp_path / "q.parquet"), 2)
    for number in range(500):
        log.add("text", 10, str(number), np.ones((1, 2), np.float32))
    log.close()
    numbers = [int(text) for text in pq.read_table(tmp_path / "q.parquet").column("text").to_pylist()]
    assert len(set(numbers)) == 50
    assert 150 < np.mean(numbers) < 350, "neither the first alone nor the last"


def test_vectors_of_another_dimension_are_not_kept(tmp_path: Path) -> None:
    log = QueryFile(str(tmp_path / "q.parquet"), 2)
    log.add("vector", 10, None, np.ones((1, 3), np.float32))
    log.close()
    assert not (tmp_path / "q.parquet").exists()


def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("dear diary")
    with pytest.raises(UserError, match="is there and is no Parquet file"):
        QueryFile(str(tmp_path / "notes"), 2)
    assert (tmp_path / "notes").read_text() == "dear diary"
