"""A published place is followed: new versions are opened beside old ones, takedowns leave answers, failures change nothing."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from clipmill.core.errors import UserError
from clipmill.serve.follow.target import target_of
from clipmill.serve.service import Service, named_of
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from clipmill.serve.web.metrics import Metrics
from serve.conftest import clipmill, open_service, picture, publish, write_input

SWITCHES = 200


def ask(service: Service, **asked: object) -> dict:
    client = TestClient(make_app(service, Access()), base_url="http://localhost")
    answer = client.post("/v1/search", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(answer: dict) -> set[str]:
    return {result["id"] for result in answer["results"]}


def test_a_new_version_is_read_after_the_next_look(own_place: Path) -> None:
    service = open_service(own_place / "out")
    before = ask(service, text="x", k=100)
    write_input(own_place / "in/b.parquet", range(20, 25))
    new = publish(own_place)
    assert ask(service, text="x", k=100)["version"] == before["version"]
    service.indices[0].look()
    after = ask(service, text="x", k=100)
    assert after["version"] == new != before["version"]
    assert ids(after) - ids(before) == {f"picture-{number}" for number in range(20, 25)}
    clipmill("rollback", own_place / "out", "--to", before["version"])
    service.indices[0].look()
    assert ask(service, text="x", k=100)["version"] == before["version"]


def test_a_version_that_is_damaged_is_not_switched_to(own_place: Path) -> None:
    service = open_service(own_place / "out")
    old = ask(service, text="x")["version"]
    write_input(own_place / "in/b.parquet", range(20, 25))
    new = publish(own_place)
    (shard,) = (own_place / "out/runs" / new / "index").glob("shard-*.faiss")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    service.indices[0].look()
    assert ask(service, text="x")["version"] == old
    assert service.indices[0].failing_since is not None
    shard.write_bytes(whole)
    service.indices[0].look()
    assert ask(service, text="x")["version"] == new
    assert service.indices[0].failing_since is None


def test_a_place_that_cannot_be_read_leaves_the_version_that_is_open(own_place: Path) -> None:
    service = open_service(own_place / "out")
    before = ask(service, text="x", k=3, include=["columns"])
    (own_place / "out").rename(own_place / "away")
    service.indices[0].look()
    assert ask(service, text="x", k=3, include=["columns"])["results"] == before["results"]
    answer = ask(service, text="x", k=1, include=["thumbnail"])
    assert "no_thumbnail" in answer["results"][0]
    (own_place / "away").rename(own_place / "out")
    service.indices[0].look()
    assert ask(service, text="x", k=1, include=["thumbnail"])["results"][0]["thumbnail"]


@pytest.mark.parametrize("by", ["id", "content"])
def test_what_is_taken_down_leaves_all_answers_before_the_next_version(own_place: Path, by: str) -> None:
    service = open_service(own_place / "out")
    version = ask(service, text="x")["version"]
    if by == "id":
        (own_place / "ids").write_text("picture-4\n")
        clipmill("remove", own_place / "out", "--ids", own_place / "ids")
    else:
        (own_place / "p.png").write_bytes(picture(4))
        clipmill("remove", own_place / "out", "--content", own_place / "p.png")
    service.indices[0].look()
    client = TestClient(make_app(service, Access()), base_url="http://localhost")
    for asked in ({"text": "x"}, {"id": "picture-3"}, {"text": "x", "where": "year < 2100"}):
        answer = ask(service, k=100, **asked)
        assert answer["version"] == version
        assert ids(answer) == {f"picture-{number}" for number in range(12) if number != 4}
    assert client.get("/v1/items/picture-4").status_code == 404
    assert client.post("/v1/search", json={"id": "picture-4"}).status_code == 404
    assert client.post("/v1/search", json={"query": [{"id": "picture-4", "weight": 2}]}).status_code == 404
    assert client.post("/metadata", json={"ids": [4], "indice_name": "out"}).status_code == 404
    (told,) = client.get("/v1/indices").json()
    assert told["removed"] == 1
    years = next(one for one in client.get("/v1/indices/out/columns").json()["columns"] if one["name"] == "label")
    assert dict(map(tuple, years["values"])) == {"even": 5, "odd": 6}


def test_what_was_taken_down_before_the_start_is_hidden_from_the_first_answer(own_place: Path) -> None:
    (own_place / "ids").write_text("picture-4\n")
    clipmill("remove", own_place / "out", "--ids", own_place / "ids")
    version = json.loads((own_place / "out/current.json").read_text())["version"]
    for place in (own_place / "out", own_place / "out/runs" / version, own_place / "out/runs" / version / "index"):
        assert "picture-4" not in ids(ask(open_service(place), text="x", k=100))


def test_takedowns_reach_a_running_service_within_ten_seconds(own_place: Path) -> None:
    service = open_service(own_place / "out")
    watch = service.watch()
    watch.start()
    try:
        (own_place / "ids").write_text("picture-4\n")
        clipmill("remove", own_place / "out", "--ids", own_place / "ids")
        ends = time.monotonic() + 10
        while "picture-4" in ids(ask(service, text="x", k=100)):
            assert time.monotonic() < ends
            time.sleep(0.2)
    finally:
        watch.stop()


def point_at(place: Path, version: str) -> None:
    """Writes the pointer as a run does: a new file in the place of the old one."""
    pointer = json.loads((place / "current.json").read_text()) | {"version": version}
    (place / "next.json").write_text(json.dumps(pointer))
    (place / "next.json").replace(place / "current.json")


def test_versions_are_switched_under_load_and_no_answer_is_of_two(own_place: Path) -> None:
    """Both versions have 12 rows, none of which is in the other."""
    first = json.loads((own_place / "out/current.json").read_text())["version"]
    (own_place / "in/a.parquet").unlink()
    write_input(own_place / "in/b.parquet", range(20, 32))
    second = publish(own_place)
    rows = {first: {f"picture-{n}" for n in range(12)}, second: {f"picture-{n}" for n in range(20, 32)}}
    service = open_service(own_place / "out")
    service.encoder(service.served(None)).text("x")
    client = TestClient(make_app(service, Access()), base_url="http://localhost")
    failures: list[str] = []
    seen: dict[str, int] = {}
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answer = client.post("/v1/search", json={"text": "x", "k": 100, "include": ["columns", "vector"]})
            if answer.status_code != 200:
                failures.append(answer.text)
                continue
            document = answer.json()
            seen[document["version"]] = seen.get(document["version"], 0) + 1
            if ids(document) != rows[document["version"]]:
                failures.append(f"{document['version']} with {sorted(ids(document))}")

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(SWITCHES):
        point_at(own_place / "out", (first, second)[number % 2])
        service.indices[0].look()
        assert service.served(None).opened.version == (first, second)[number % 2]
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(seen.values()) > 10
    assert set(seen) == {first, second}


def test_files_of_an_old_version_are_let_go(own_place: Path) -> None:
    first = json.loads((own_place / "out/current.json").read_text())["version"]
    service = open_service(own_place / "out")
    ask(service, text="x")
    write_input(own_place / "in/b.parquet", range(20, 25))
    publish(own_place)
    service.indices[0].look()

    def mapped() -> list[str]:
        return [line for line in Path("/proc/self/maps").read_text().splitlines() if first in line]

    import gc

    gc.collect()
    assert mapped() == []


def test_changes_are_counted(own_place: Path) -> None:
    metrics = Metrics()
    service = open_service(own_place / "out")
    service.indices[0]._on_change = metrics.changed
    (own_place / "ids").write_text("picture-4\n")
    clipmill("remove", own_place / "out", "--ids", own_place / "ids")
    service.indices[0].look()
    text = metrics.text(service, 0).decode()
    assert 'clipmill_index_changes_total{change="removed",index="out"} 1.0' in text
    assert 'clipmill_index_removed_rows{index="out"} 1.0' in text


def test_two_versions_are_served_side_by_side(copied: Callable[[str], Path], published: Path) -> None:
    version = json.loads((published / "out/current.json").read_text())["version"]
    service = open_service(f"before={copied('other') / 'runs' / version}", f"now={published / 'out'}")
    client = TestClient(make_app(service, Access()), base_url="http://localhost")
    answers = [client.post("/v1/search", json={"text": "red", "index": name}).json() for name in ("before", "now")]
    assert answers[0]["version"] == answers[1]["version"] == version
    assert [one["index"] for one in answers] == ["before", "now"]


def test_what_a_place_names(published: Path) -> None:
    version = json.loads((published / "out/current.json").read_text())["version"]
    index = f"{published}/out/runs/{version}/index"
    followed = target_of(str(published / "out"))
    assert (followed.uri, followed.version, followed.followed) == (index, version, True)
    for place in (f"{published}/out/runs/{version}", index):
        fixed = target_of(place)
        assert (fixed.uri, fixed.version, fixed.followed) == (index, version, False)
        assert fixed.place is not None
    assert target_of("elsewhere/index").place is None


def test_names_are_given_or_those_of_folders_and_differ() -> None:
    assert [(one.name, one.uri) for one in named_of(["a/b/", "x=s3://c/d"])] == [("b", "a/b/"), ("x", "s3://c/d")]
    with pytest.raises(UserError, match="two indices are called 'b'"):
        named_of(["a/b", "c/b"])


def test_an_index_that_is_not_there_is_told(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    with pytest.raises(UserError, match="is not a finished index dataset"):
        open_service(tmp_path / "absent")
