"""Without a token only this machine's own names are answered; with tokens each of them is compared, and no other is let in."""

import hmac
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from clipmill.core.errors import UserError
from clipmill.serve.service import Service
from clipmill.serve.web.access import Access, is_loopback, refuse_open
from clipmill.serve.web.app import make_app
from clipmill.serve.web.tokens import TokenFile

FIRST, SECOND, THIRD = ("a" * 32, "b" * 32, "c" * 32)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text(f"# people\nada: {FIRST}\n\ngrace:{SECOND}\nbot: {THIRD}\n")
    return file


@pytest.fixture
def guarded(service: Service, token_file: Path) -> TestClient:
    return TestClient(make_app(service, Access(TokenFile(token_file))), base_url="http://search.example")


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "LOCALHOST"])
def test_this_machines_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/v1/indices", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "127.0.0.1.evil.example"]
)
@pytest.mark.parametrize("path", ["/", "/v1/indices", "/healthz", "/metrics", "/docs", "/indices-list"])
def test_other_names_are_refused_for_they_may_lead_here_from_elsewhere(
    client: TestClient, host: str, path: str
) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 403
    assert "localhost" in answer.json()["detail"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "https://localhost:8000"])
def test_another_sites_page_may_not_ask(client: TestClient, origin: str) -> None:
    assert client.post("/v1/search", json={"text": "x"}, headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 200), ("192.0.2.8", 403), ("203.0.113.9", 403), ("nobody", 403)],
)
def test_where_replicas_listen_themselves_only_what_stands_before_them_is_answered(
    service: Service, address: str, status: int
) -> None:
    app = make_app(service, Access(peers=frozenset({"192.0.2.7"})))
    for path in ("/v1/indices", "/healthz", "/"):
        client = TestClient(app, base_url="http://localhost:8000", client=(address, 4711))
        assert client.get(path).status_code == status


def test_the_services_own_page_may_ask(client: TestClient) -> None:
    own = {"Origin": "http://localhost:8000"}
    assert client.post("/v1/search", json={"text": "x"}, headers=own).status_code == 200


@pytest.mark.parametrize("token", [FIRST, SECOND, THIRD])
def test_every_token_of_the_file_is_let_in(guarded: TestClient, token: str) -> None:
    assert guarded.get("/v1/indices", headers={"Authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {FIRST}x"},
        {"Authorization": f"Bearer {FIRST[:-1]}"},
        {"Authorization": "Bearer "},
        {"Authorization": FIRST},
        {"Authorization": f"Basic {FIRST}"},
        {"X-Token": FIRST},
        {"Cookie": f"token={FIRST}"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/indices", "/v1/items/picture-1", "/metrics", f"/v1/indices?token={FIRST}"])
def test_without_a_known_token_in_the_header_nobody_is_let_in(guarded: TestClient, headers: dict, path: str) -> None:
    answer = guarded.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert FIRST not in answer.text


def test_the_page_itself_and_health_need_no_token(guarded: TestClient) -> None:
    for path in ("/", "/page/page.js", "/healthz", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("given", [FIRST, THIRD, "wrong" * 8, None])
def test_each_token_is_compared_whichever_was_given(
    token_file: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    compared = []
    real = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    name = TokenFile(token_file).name_of(given)
    assert name == {FIRST: "ada", THIRD: "bot"}.get(given or "")
    assert len({one for one, _ in compared}) == len(compared) == 3
    assert {len(part) for pair in compared for part in pair} == {32}, (
        "all at one length, which tells nothing of a token"
    )


def test_a_changed_file_counts_at_once(guarded: TestClient, token_file: Path) -> None:
    new = "d" * 32
    token_file.write_text(f"ada: {new}\n")
    assert guarded.get("/v1/indices", headers={"Authorization": f"Bearer {new}"}).status_code == 200
    assert guarded.get("/v1/indices", headers={"Authorization": f"Bearer {FIRST}"}).status_code == 401
    time.sleep(0.01)
    token_file.unlink()
    assert guarded.get("/v1/indices", headers={"Authorization": f"Bearer {new}"}).status_code == 401


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no token"),
        ("ada: short\n", "16 or more letters"),
        (f"{FIRST}\n", "write NAME: TOKEN"),
        (f"ada: {FIRST}\nada: {SECOND}\n", "two tokens called 'ada'"),
    ],
)
def test_a_file_that_lets_nobody_in_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(UserError, match=told):
        TokenFile(tmp_path / "tokens")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "search.example"])
def test_off_loopback_a_token_is_needed(host: str, token_file: Path) -> None:
    assert not is_loopback(host)
    with pytest.raises(UserError, match="so a token is needed"):
        refuse_open(host, None)
    refuse_open(host, TokenFile(token_file))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_on_loopback_no_token_is_needed(host: str) -> None:
    refuse_open(host, None)


def test_clip_retrievals_protocol_is_there_without_tokens_only(client: TestClient, guarded: TestClient) -> None:
    assert client.get("/indices-list").json() == ["photos"]
    assert guarded.get("/indices-list", headers={"Authorization": f"Bearer {FIRST}"}).status_code == 404
