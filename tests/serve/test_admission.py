"""Only so many requests are worked on at once; further ones are told to come back, and answers go on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient

from clipmill.serve.answers.encode import BatchingEncoder
from clipmill.serve.answers.recent import Recent
from clipmill.serve.service import Service
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from serve.conftest import open_service


class Slow:
    """An encoder that waits until it is let go on, and counts how many texts it is given at once."""

    def __init__(self, service: Service) -> None:
        self._vector = service.served(None).index.vectors_at(np.array([0]))
        self.go_on = threading.Event()
        self.batches: list[int] = []

    def encode_texts(self, texts: list[str]) -> object:
        self.batches.append(len(texts))
        assert self.go_on.wait(30)
        if "bad" in texts:
            raise ValueError("bad")
        return self._vector.repeat(len(texts), axis=0)


@pytest.fixture
def slow(published: object) -> tuple[Service, Slow]:
    service = open_service(f"photos={published}/out", workers=2, waiting=3)
    encoder = Slow(service)
    service.make_encoder = lambda identity: BatchingEncoder(encoder, 1000)  # type: ignore[arg-type]
    return service, encoder


def test_more_than_can_wait_are_told_to_come_back(slow: tuple[Service, Slow]) -> None:
    service, encoder = slow
    with TestClient(make_app(service, Access()), base_url="http://localhost") as client, ThreadPoolExecutor(12) as pool:
        inside = client.app.state.running.admission
        asked = [pool.submit(client.post, "/v1/search", json={"text": f"query {number}"}) for number in range(5)]
        while inside.inside < 5:
            time.sleep(0.005)
        refused = client.post("/v1/search", json={"text": "one more"})
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200
        encoder.go_on.set()
        assert [one.result().status_code for one in asked] == [200] * 5
        assert max(encoder.batches) > 2, "more texts are encoded together than answers are computed"
        assert client.post("/v1/search", json={"text": "and now"}).status_code == 200


def test_texts_that_come_meanwhile_are_encoded_together(slow: tuple[Service, Slow]) -> None:
    _, encoder = slow
    batching = BatchingEncoder(encoder, 1000)  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batching.text, "first")
        while not encoder.batches:
            time.sleep(0.005)
        others = [pool.submit(batching.text, f"other {number}") for number in range(6)]
        while batching._waiting.qsize() < 6:
            time.sleep(0.005)
        encoder.go_on.set()
        assert [one.result().shape for one in (first, *others)] == [(192,)] * 7
    assert encoder.batches == [1, 6]


def test_one_text_that_cannot_be_encoded_spoils_no_other(slow: tuple[Service, Slow]) -> None:
    _, encoder = slow
    batching = BatchingEncoder(encoder, 1000)  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batching.text, "first")
        while not encoder.batches:
            time.sleep(0.005)
        good, bad = pool.submit(batching.text, "good"), pool.submit(batching.text, "bad")
        while batching._waiting.qsize() < 2:
            time.sleep(0.005)
        encoder.go_on.set()
        assert first.result().shape == good.result().shape == (192,)
        with pytest.raises(ValueError, match="bad"):
            bad.result()


def test_a_store_that_does_not_answer_holds_up_nobody_but_who_reads_from_it() -> None:
    stuck, go_on = threading.Event(), threading.Event()

    def read(rows: object) -> dict[int, str]:
        stuck.set()
        assert go_on.wait(30)
        return dict.fromkeys(rows, "read")  # type: ignore[call-overload]

    recent = Recent(read, patience=0.01)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(recent.get, [1, 2])
        assert stuck.wait(30)
        assert pool.submit(recent.get, [2, 3]).result(timeout=30) == {}
        go_on.set()
        assert first.result() == {1: "read", 2: "read"}
    assert recent.get([2]) == {2: "read"}
