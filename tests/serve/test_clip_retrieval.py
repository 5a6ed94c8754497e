"""clip-retrieval's own client, unchanged, finds what `clipmill search` finds."""

import base64
import importlib.util
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import uvicorn
from fastapi.testclient import TestClient

import clipmill
from clipmill.serve.here import address_of, listen
from clipmill.serve.service import Service
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from serve.conftest import picture


@pytest.fixture(scope="module")
def clip_client() -> ModuleType:
    """The module of the client alone: the package around it needs what is not installed here."""
    package = importlib.util.find_spec("clip_retrieval")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("clip-retrieval is not installed")
    file = Path(package.submodule_search_locations[0]) / "clip_client.py"
    spec = importlib.util.spec_from_file_location("clip_client_alone", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    opened: socket.socket = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(service, Access()), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield address_of(opened)
    server.should_exit = True
    thread.join()


def test_the_client_finds_by_text_picture_and_vector_what_search_finds(
    clip_client: ModuleType, address: str, published: Path, tmp_path: Path
) -> None:
    client = clip_client.ClipClient(url=f"{address}knn-service", indice_name="photos", num_images=6)
    index = clipmill.open_index(published / "out")
    file = tmp_path / "picture.png"
    file.write_bytes(picture(11))
    vector = [float(number + 1) for number in range(192)]
    for found, hits in (
        (client.query(text="a green picture"), index.search("a green picture", k=6)),
        (client.query(image=str(file)), index.search(file, k=6)),
        (client.query(embedding_input=vector), index.search(vector, k=6)),
    ):
        assert [result["key"] for result in found] == [hit.id for hit in hits]
        assert [result["id"] for result in found] == [hit.row for hit in hits]
    first = client.query(image=str(file))[0]
    assert first["similarity"] == pytest.approx(1, abs=2e-3)
    assert (first["caption"], first["year"]) == ("plain colour 11", 2011)


def test_a_picture_by_url_is_not_fetched(client: TestClient) -> None:
    asked = {"indice_name": "photos", "image_url": "http://169.254.169.254/latest", "num_images": 3}
    answer = client.post("/knn-service", content=json.dumps(asked))
    assert answer.status_code == 400
    assert "not fetched" in answer.json()["detail"]


def test_metadata_and_indices_are_told(client: TestClient) -> None:
    (found,) = client.post("/metadata", content=json.dumps({"ids": [3], "indice_name": "photos"})).json()
    assert found["id"] == 3
    assert (found["metadata"]["key"], found["metadata"]["year"]) == ("picture-3", 2003)
    assert client.get("/indices-list").json() == ["photos"]


@pytest.mark.parametrize(
    "asked",
    [
        {"text": "a"},
        {"indice_name": "absent", "text": "a"},
        {"indice_name": "photos"},
        {"indice_name": "photos", "text": "a", "num_images": 10**6},
    ],
)
def test_what_cannot_be_answered_is_a_problem(client: TestClient, asked: dict) -> None:
    assert 400 <= client.post("/knn-service", content=json.dumps(asked)).status_code < 500


def test_base64_of_the_client_is_read(client: TestClient) -> None:
    image = base64.b64encode(picture(7)).decode()
    asked = {"indice_name": "photos", "image": image, "text": None, "num_images": 1, "deduplicate": True}
    (found,) = client.post("/knn-service", content=json.dumps(asked)).json()
    assert found["key"] == "picture-7"
