"""A real S3 server: the whole way over it, writers that race, and commands during which it is stopped or ended."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from clipmill import storage
from clipmill.serve.limits import Limits
from clipmill.serve.service import Service, encoders_here, named_of
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from clipmill.storage.s3 import client as s3_client
from clipmill_jobs.__main__ import main
from crash_scenarios import PICTURES, write_inputs
from faulty_s3 import BUCKET
from real_s3 import RealS3

AT = f"s3://{BUCKET}/"
WRITERS, ROUNDS = 8, 5


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RealS3]:
    with RealS3(tmp_path / "store") as running:
        yield running


@pytest.fixture
def home(store: RealS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with pictures, where commands run that are led to the store."""
    folder = tmp_path / "home"
    write_inputs(folder, AT)
    for name, value in {**store.environment, "HOME": str(folder)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    s3_client.forget()
    yield folder
    s3_client.forget()


def here(*arguments: str, code: int = 0) -> str:
    """What a command prints that ends in this process, with this exit code."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output
    return done.output if code else done.stdout


def test_the_whole_way_and_one_winner_of_each_race(store: RealS3, home: Path) -> None:
    here("import", "csv", "captions.csv", "--output", f"{AT}data")
    here("embed", "--input", f"{AT}data", "--output", f"{AT}e")
    here("index", "--embeddings", f"{AT}e", "--output", f"{AT}index")
    found = json.loads(here("search", "--index", f"{AT}index", "--text", "a picture", "-k", "3", "--json"))
    assert len(found["results"]) == 3
    for name in ("e", "index"):
        here("verify", f"{AT}{name}")
    assert not [key for key in store.listed() if not key.startswith(("data/", "e/", "index/"))]

    place = storage.resolve(f"{AT}race")
    seen: str | None = None
    with ThreadPoolExecutor(WRITERS) as pool:
        for turn in range(ROUNDS):
            offers = [f"{turn} {writer}".encode() for writer in range(WRITERS)]
            versions = list(pool.map(lambda data, seen=seen: storage.write_if(place, data, seen), offers))
            (winner,) = (writer for writer in range(WRITERS) if versions[writer] is not None)
            assert storage.read_bytes(place) == offers[winner]
            seen = versions[winner]


SILENT_SECONDS = 20.0


def test_a_service_answers_rightly_or_with_503_while_the_store_is_silent(
    store: RealS3, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here("run", "run.yaml")
    monkeypatch.setenv("CLIPMILL_S3_TIMEOUT", "2")
    monkeypatch.setenv("CLIPMILL_S3_PATIENCE", "4")
    s3_client.forget()
    named, limits = named_of([f"{AT}out"]), Limits()
    service = Service.open(named, limits, encoders_here(limits, None, None, trusted=False), home / "cache")
    asks = (
        {"text": "a picture"},
        {"text": "a picture", "include": ["columns"]},
        {"text": "x", "include": ["thumbnail"]},
    )
    statuses: list[list[int]] = [[] for _ in asks]
    with TestClient(make_app(service, Access()), base_url="http://localhost") as client:
        before = [client.post("/v1/search", json={**ask, "k": 3}).json() for ask in asks]
        with store.silent():
            ends = time.monotonic() + SILENT_SECONDS
            while time.monotonic() < ends:
                for ask, known, seen in zip(asks, before, statuses, strict=True):
                    answer = client.post("/v1/search", json={**ask, "k": 3})
                    seen.append(answer.status_code)
                    if answer.status_code == 200:
                        rows = [[result["row"] for result in one["results"]] for one in (answer.json(), known)]
                        assert rows[0] == rows[1]
                    else:
                        assert int(answer.headers["Retry-After"]) > 0
        ends = time.monotonic() + 60
        while (after := [client.post("/v1/search", json={**ask, "k": 3}) for ask in asks]) and {
            answer.status_code for answer in after
        } != {200}:
            assert time.monotonic() < ends
        assert [answer.json()["results"] for answer in after] == [known["results"] for known in before]
    assert set(statuses[0]) == {200}
    assert {status for seen in statuses for status in seen} <= {200, 503}


COMMANDS = {
    "embed": (("embed", "--input", "in", "--output", f"{AT}made"), 4),
    "index": (("index", "--embeddings", f"{AT}e", "--output", f"{AT}made"), 4),
    "filter": (("filter", "--embeddings", f"{AT}e", "--where", "width > 1", "--output", f"{AT}made"), 4),
    "run": (("run", "run.yaml"), 20),
}
"""Each with the request that writes at which the store falls silent, in its midst."""


def images_of(folder: Path, store: RealS3) -> int:
    """Rows of pictures in the embeddings that a store has, wherever they lie."""
    rows = 0
    for key in store.listed():
        if "/images/" in key and key.endswith(".parquet"):
            store.client.download_file(BUCKET, key, str(folder / "part.parquet"))
            rows += pq.read_metadata(folder / "part.parquet").num_rows
    return rows


@pytest.mark.long
@pytest.mark.parametrize("seconds", [30, 60])
@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_command_outlives_a_store_that_is_silent_for_a_while(
    name: str, seconds: int, store: RealS3, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, at = COMMANDS[name]
    if name in ("index", "filter"):
        here("embed", "--input", "in", "--output", f"{AT}e")
    monkeypatch.setenv(
        "CLIPMILL_S3_TIMEOUT", "10"
    )  # so that requests are repeated which the store hears later all the same
    goes_on = store.stop_at(at, seconds)
    here(*command)
    assert goes_on.is_set()
    here("verify", f"{AT}{'out' if name == 'run' else 'made'}")
    assert images_of(home, store) == PICTURES
    assert not [key for key in store.listed() if ".staging" in key]


@pytest.mark.long
@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_command_gives_a_store_up_that_is_gone_and_says_what_to_do(
    name: str, store: RealS3, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, at = COMMANDS[name]
    if name in ("index", "filter"):
        here("embed", "--input", "in", "--output", f"{AT}e")
    monkeypatch.setenv("CLIPMILL_S3_PATIENCE", "5")
    store.end_at(at)
    told = here(*command, code=1)
    assert "run the same command again" in told
    assert "Traceback" not in told
