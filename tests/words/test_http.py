"""A server that stumbles is asked again, one that refuses is told, and no answer is asked for twice."""

import base64
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from blocks import write_pictures
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import AskSettings, CaptionSettings, ClusterSettings
from clipmill.runs.text_stages import words_stage
from clipmill.verification.dataset import verify
from clipmill.words import steps
from clipmill.words.engines import http

HERE = ClusterSettings(device="cpu", cpus=1)
Reply = tuple[int, dict[str, str], bytes]


def said(text: str, finish: str = "stop", **message: Any) -> Reply:
    choice = {"message": {"content": text, **message}, "finish_reason": finish}
    choice["logprobs"] = {"content": [{"logprob": -0.25}, {"logprob": -0.75}]}
    usage = {"prompt_tokens": 100, "completion_tokens": 7}
    return 200, {}, json.dumps({"choices": [choice], "usage": usage}).encode()


@dataclass
class Server:
    """Counts what it is asked, by picture, and answers as ``reply`` says of (picture, how often it was asked)."""

    reply: Callable[[str, int], Reply]
    key: str | None = None
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    address: str = ""

    def answer(self, body: bytes, authorization: str | None) -> Reply:
        request = json.loads(body)
        url = request["messages"][-1]["content"][1]["image_url"]["url"]
        picture = hashlib.sha256(base64.b64decode(url.split(",")[1])).hexdigest()
        with self.lock:
            self.bodies.append(request)
            self.asked[picture] += 1
            times = self.asked[picture]
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            if self.key and authorization != f"Bearer {self.key}":
                return 401, {}, b'{"error": {"message": "no such key"}}'
            reply = self.reply(picture, times)
            with self.lock:
                self.answered[picture] += reply[0] == 200
            return reply
        finally:
            with self.lock:
                self.now -= 1


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[ThreadingHTTPServer] = []

    def start(reply: Callable[[str, int], Reply], key: str | None = None) -> Server:
        server = Server(reply, key)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/chat/completions"
                status, headers, data = server.answer(body, self.headers.get("Authorization"))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                if "Content-Length" in headers:
                    self.close_connection = True

            def log_message(self, *arguments: Any) -> None:
                pass

        listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(listening)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        server.address = f"http://127.0.0.1:{listening.server_port}/v1"
        return server

    yield start
    for listening in running:
        listening.shutdown()
        listening.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_WAIT", 0.01)
    monkeypatch.setenv(http.KEY, "right")
    sleep = time.sleep
    monkeypatch.setattr(http.time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))


def caption(folder: str, output: Path, server: Server, **options: Any) -> CaptionSettings:
    values = {"model": "eye-1", "engine": "http", "base_url": server.address, "prompt": "What is it?", **options}
    return CaptionSettings(input=folder, output=str(output), **values)


def texts(output: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(output.glob("texts/*.parquet")) for row in pq.read_table(file).to_pylist()]


def rejects(output: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(output.glob("rejected/*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_every_picture_is_asked_once_and_tokens_are_counted(serve: Callable[..., Server], tmp_path: Path) -> None:
    def reply(picture: str, times: int) -> Reply:
        threading.Event().wait(0.05)
        return said(f"text of {picture[:6]}")

    server = serve(reply, key="right")
    folder = write_pictures(tmp_path / "in", 40)
    made = words_stage(caption(folder, tmp_path / "out", server, requests_at_once=5), HERE, Silent()).manifest
    assert sorted(server.asked.values()) == [1] * 40
    assert {row["text"] for row in texts(tmp_path / "out")} == {f"text of {picture[:6]}" for picture in server.asked}
    assert (made.counts.texts, made.counts.tokens, made.counts.prompt_tokens) == (40, 280, 4000)
    assert {row["logprob"] for row in texts(tmp_path / "out")} == {-0.5}
    assert 1 < server.most <= 5
    request = server.bodies[0]
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("eye-1", 60, 0.0)
    assert request["messages"][-1]["content"][0] == {"type": "text", "text": "What is it?"}
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []
    assert not (tmp_path / ".out.staging").exists()
    assert "right" not in (tmp_path / "out/manifest.json").read_text()


def stumbling(picture: str, times: int) -> Reply:
    """By its picture: busy twice, broken once, cut short once, refused for good, cut at the most tokens, or fine."""
    kind = int(picture[:2], 16) % 6
    if kind == 0 and times <= 2:
        return 429, {"Retry-After": "1"}, b'{"error": {"message": "slow down"}}'
    if kind == 1 and times == 1:
        return 500, {}, b"oops"
    if kind == 2 and times == 1:
        return 200, {"Content-Length": "4000"}, b'{"choices": [{"mess'
    if kind == 3:
        return 400, {}, b'{"error": {"message": "this picture is not allowed"}}'
    if kind == 4:
        return said("x" * 20, finish="length")
    return said("fine")


def test_a_stumbling_server_costs_no_row(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(stumbling)
    folder = write_pictures(tmp_path / "in", 300)
    made = words_stage(caption(folder, tmp_path / "out", server), HERE, Silent()).manifest
    kinds = Counter(int(picture[:2], 16) % 6 for picture in server.asked)
    assert len(kinds) == 6, "the pictures do not cover every case"
    assert made.counts.texts == 300 - kinds[3]
    assert made.counts.rejected_by_reason == {"not_answerable": kinds[3]}
    assert {row["detail"] for row in rejects(tmp_path / "out")} == {"HTTP 400: this picture is not allowed"}
    assert made.counts.cut == kinds[4]
    for picture, times in server.asked.items():
        kind = int(picture[:2], 16) % 6
        assert times == {0: 3, 1: 2, 2: 2}.get(kind, 1), kind
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []


def test_after_a_kill_no_answer_that_came_is_asked_for_again(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before a unit is committed, all answers of which had come."""
    server = serve(lambda picture, times: said(f"text of {picture[:6]}"))
    folder = write_pictures(tmp_path / "in", 60)
    settings = caption(folder, tmp_path / "out", server)
    commits: list[int] = []
    plain = steps.commit_unit

    def stops(layout: Any, number: int, packed: Any) -> None:
        if len(commits) == 3:
            raise KeyboardInterrupt
        commits.append(number)
        plain(layout, number, packed)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "commit_unit", stops)
        with pytest.raises(KeyboardInterrupt):
            words_stage(settings, HERE, Silent())
    before = len(server.asked)
    assert 24 < before < 60
    made = words_stage(settings, HERE, Silent()).manifest
    assert sorted(server.asked.values()) == [1] * 60
    assert made.counts.texts == 60
    assert made.counts.prompt_tokens == 6000


def test_a_wrong_key_ends_the_run_and_is_not_told(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda picture, times: said("fine"), key="right")
    folder = write_pictures(tmp_path / "in", 12)
    monkeypatch.setenv(http.KEY, "wrong-key-of-mine")
    with pytest.raises(RunFailed, match=r"refuses the key \(HTTP 401.*set CLIPMILL_API_KEY") as raised:
        words_stage(caption(folder, tmp_path / "out", server), HERE, Silent())
    assert "wrong-key-of-mine" not in str(raised.value)
    assert len(server.bodies) <= 8
    monkeypatch.setenv(http.KEY, "right")
    assert words_stage(caption(folder, tmp_path / "out", server), HERE, Silent()).manifest.counts.texts == 12


def test_a_server_that_never_answers_ends_the_run(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(lambda picture, times: (503, {}, b"down"))
    folder = write_pictures(tmp_path / "in", 2)
    with pytest.raises(RunFailed, match=r"does not answer \(down\); what was answered is kept"):
        words_stage(caption(folder, tmp_path / "out", server), HERE, Silent())
    assert set(server.asked.values()) == {6}


def test_a_model_that_refuses_and_one_that_says_nothing_are_rejects(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    def reply(picture: str, times: int) -> Reply:
        return said("", refusal="I cannot help") if int(picture[0], 16) % 2 else said("  ")

    server = serve(reply)
    folder = write_pictures(tmp_path / "in", 20)
    made = words_stage(caption(folder, tmp_path / "out", server), HERE, Silent()).manifest
    assert set(made.counts.rejected_by_reason) == {"not_answerable", "empty_text"}
    assert sum(made.counts.rejected_by_reason.values()) == 20
    assert any(row["detail"] == "the model refuses: I cannot help" for row in rejects(tmp_path / "out"))
    assert sorted(server.asked.values()) == [1] * 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": None}, "--engine http needs --base-url"),
        (
            {"base_url": "http://user:secret@host/v1"},
            "--base-url holds a name or a key: put the key into CLIPMILL_API_KEY",
        ),
        ({"model": None}, "--engine http needs --model"),
        ({"engine": "transformers"}, "--base-url is for --engine http"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "in", 2)
    settings = caption(folder, tmp_path / "out", Server(stumbling, address="http://127.0.0.1:1/v1"), **options)
    with pytest.raises(UserError, match=message):
        words_stage(settings, HERE, Silent())


def test_choices_are_refused(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "in", 2)
    address = {"engine": "http", "base_url": "http://127.0.0.1:1/v1", "model": "eye-1"}
    asked = AskSettings(input=folder, output=str(tmp_path / "out"), question="a?", choices="yes,no", **address)
    with pytest.raises(UserError, match="--choices needs probabilities of given answers"):
        words_stage(asked, HERE, Silent())
