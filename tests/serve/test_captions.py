"""An index of captions is asked as one of pictures is: its rows are captions, with the pictures that they belong to."""

from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from clipmill.serve.follow.hidden import hidden_positions
from clipmill.serve.service import Service
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from clipmill.versions.takedown import Takedown
from serve.conftest import ROWS, clipmill, open_service


@pytest.fixture(scope="module")
def both(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    output = tmp_path_factory.mktemp("captions") / "index"
    clipmill("index", "--embeddings", published / "out", "--output", output, "--gallery", "captions")
    return open_service(f"photos={published / 'out'}", f"captions={output}")


def test_the_gallery_that_is_asked_for_is_searched(both: Service) -> None:
    client = TestClient(make_app(both, Access()), base_url="http://localhost")
    include = ["columns", "caption", "thumbnail"]
    asked = {"text": "plain colour 7", "gallery": "captions", "k": 1, "include": include}
    answer = client.post("/v1/search", json=asked).json()
    (result,) = answer["results"]
    assert (answer["index"], answer["gallery"], answer["n"]) == ("captions", "captions", 2 * ROWS)
    assert (result["caption"], result["id"]) == ("plain colour 7", "picture-7")
    assert result["columns"] == {"caption_index": 0, "caption": "plain colour 7"}
    assert result["score"] == pytest.approx(1, abs=2e-3)
    assert result["thumbnail"].startswith("data:image/"), "of the picture that the caption belongs to"
    assert client.post("/v1/search", json={**asked, "gallery": "images"}).json()["index"] == "photos"
    wrong = client.post("/v1/search", json={**asked, "index": "photos"})
    assert wrong.status_code == 404
    assert "there is no index called 'photos' of captions here" in wrong.json()["detail"]


def test_every_caption_of_what_was_taken_down_is_hidden(both: Service, published: Path) -> None:
    opened = both.served("captions").opened
    ids = opened.index.table.fetch(np.arange(2 * ROWS), ["id"]).column("id").to_pylist()
    expected = [position for position, one in enumerate(ids) if one in ("picture-3", "picture-9")]
    assert hidden_positions(opened, Takedown(ids=frozenset({"picture-3", "picture-9"}))).tolist() == expected
    assert len(expected) == 4
