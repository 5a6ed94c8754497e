"""The page in a real browser: what people do with it, by mouse and by keyboard, wide and narrow, dark and light."""

import csv
import io
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from browsing import SIZES
from clipmill.serve.here import address_of, listen
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from clipmill.serve.web.tokens import TokenFile
from serve.conftest import HOSTILE, open_service, picture

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

TOKEN = "t" * 32


def serving(app: object) -> Iterator[str]:
    opened: socket.socket = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield address_of(opened)
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def address(published: Path) -> Iterator[str]:
    yield from serving(make_app(open_service(f"photos={published / 'out'}", f"again={published / 'out'}"), Access()))


@pytest.fixture(scope="module")
def guarded(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"ada: {TOKEN}\n")
    yield from serving(make_app(open_service(f"photos={published / 'out'}"), Access(TokenFile(file))))


@pytest.fixture
def opened(browser: object, address: str) -> Iterator[Callable[..., object]]:
    """Opens the page; at the end its console must be empty and nothing asked for elsewhere."""
    contexts, told, asked = [], [], []

    def open_page(path: str = "", at: str = address, size: str = "wide", scheme: str = "light") -> object:
        context = browser.new_context(
            viewport=SIZES[size], color_scheme=scheme, permissions=["clipboard-read", "clipboard-write"]
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.set_default_timeout(10_000)
        page.goto(at + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert told == []
    assert {re.match(r"(\w+:(//[^/]*/)?)", url)[1] for url in asked} <= {address, "data:", "blob:"}


def ids(page: object) -> list[str]:
    return page.locator(".card").evaluate_all("cards => cards.map((card) => card.dataset.id)")


def search(page: object, text: str) -> list[str]:
    with page.expect_response("**/v1/search"):
        page.fill("#text", text)
    page.wait_for_selector(".card img")
    return ids(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_a_screen_reader_finds_nothing_wrong(opened: Callable, size: str, scheme: str) -> None:
    page = opened(size=size, scheme=scheme)
    search(page, "red")
    page.click("#filters summary")
    page.wait_for_selector("#columns fieldset")
    page.click(".card .acts button >> nth=1")
    page.wait_for_selector("#parts li")
    found = axe.Axe().run(page)
    assert found.response["violations"] == []
    page.click("#parts li button")
    page.wait_for_selector("#parts li", state="detached")
    page.click(".card .frame >> nth=0")
    page.wait_for_selector("dialog[open] img")
    assert axe.Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the window"


def test_the_description_of_the_interface_has_nothing_wrong(opened: Callable) -> None:
    assert axe.Axe().run(opened("docs")).response["violations"] == []


def test_words_are_answered_while_they_are_typed(opened: Callable) -> None:
    page = opened()
    page.locator("#text").press_sequentially("a red picture", delay=20)
    page.wait_for_selector(".card img")
    assert len(ids(page)) == 24
    assert "all compared exactly" in page.text_content("#status")


def test_a_picture_that_is_chosen_finds_itself_and_can_be_sent_as_an_address(opened: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(picture(13))
    page = opened()
    page.set_input_files("#picture", tmp_path / "mine.png")
    page.wait_for_selector(".card img")
    page.wait_for_function("() => location.hash.includes('short')")
    assert ids(page)[0] == "picture-13"
    again = opened(page.evaluate("location.hash"))
    again.wait_for_selector(".card img")
    assert ids(again)[:5] == ids(page)[:5]


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_searched_for(opened: Callable, how: str) -> None:
    page = opened()
    page.wait_for_selector("#index option", state="attached")
    page.evaluate(
        """([how, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "mine.png", { type: "image/png" }));
          const event = how === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true })
                                       : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
          document.body.dispatchEvent(event);
        }""",
        [how, list(picture(21))],
    )
    page.wait_for_selector(".card img")
    assert ids(page)[0] == "picture-21"


def test_filters_leave_what_is_chosen_and_stand_in_the_address(opened: Callable) -> None:
    page = opened()
    search(page, "green")
    page.click("#filters summary")
    page.get_by_label("odd").check()
    page.get_by_label("from").first.fill("2030")
    page.wait_for_function("() => document.querySelectorAll('.card').length === 9")
    assert set(ids(page)) == {f"picture-{number}" for number in range(31, 48, 2)}
    again = opened(page.evaluate("location.hash"))
    again.wait_for_selector(".card")
    assert ids(again) == ids(page)
    assert again.get_by_label("odd").is_checked()
    page.click("#clear")
    page.wait_for_function("() => document.querySelectorAll('.card').length === 24")


def test_a_condition_in_sql_is_a_filter(opened: Callable) -> None:
    page = opened()
    search(page, "green")
    page.click("#filters summary")
    page.fill("#where", "year >= 2040")
    page.wait_for_function("() => document.querySelectorAll('.card').length === 8")
    assert page.text_content("#problem") == ""


def test_more_and_less_like_a_result(opened: Callable) -> None:
    page = opened()
    search(page, "red")
    third = ids(page)[2]
    page.click(".card:nth-child(3) [data-act=more]")
    page.wait_for_function("id => document.querySelector('.card').dataset.id === id", arg=third)
    assert page.input_value("#text") == ""
    last = ids(page)[-1]
    page.click(".card:last-child [data-act=less]")
    page.wait_for_function(
        "id => [...document.querySelectorAll('.card')].every((card) => card.dataset.id !== id)", arg=last
    )
    assert page.locator("#parts li").count() == 2
    page.go_back()
    page.wait_for_function("() => document.querySelectorAll('#parts li').length === 1")


def test_everything_can_be_done_with_the_keyboard(opened: Callable) -> None:
    page = opened()
    page.wait_for_selector("#index option", state="attached")
    page.keyboard.type("blue")
    page.wait_for_selector(".card img")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    second = ids(page)[1]
    assert page.evaluate("document.activeElement.dataset.id") == second
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.text_content("#detail-title") == second
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    page.keyboard.press("m")
    page.wait_for_function("id => document.querySelector('.card')?.dataset.id === id", arg=second)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"


def test_two_indices_side_by_side_say_what_moved(opened: Callable) -> None:
    page = opened()
    search(page, "red")
    page.select_option("#beside", "again")
    page.wait_for_selector("#results.two")
    assert page.locator("#results section").count() == 2
    assert set(page.locator(".moved").all_text_contents()) == {"same"}


def test_results_are_saved_as_csv_and_html(opened: Callable) -> None:
    page = opened()
    shown = search(page, "red")
    with page.expect_download() as download:
        page.click("#csv")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_bytes().decode())))
    assert [row["id"] for row in rows] == shown
    assert [int(row["year"]) for row in rows] == [2000 + int(one.removeprefix("picture-")) for one in shown]
    with page.expect_download() as download:
        page.click("#html")
    saved = Path(download.value.path()).read_text()
    assert "<script>" not in saved
    assert 'onerror="' not in saved
    assert all(one in saved for one in shown)


def test_hostile_captions_are_text(opened: Callable) -> None:
    page = opened()
    search(page, "red")
    page.click(".card .frame >> nth=0")
    page.wait_for_selector("dialog[open] li")
    assert HOSTILE in page.locator("dialog li").all_text_contents()
    assert page.title() == "Search · clipmill"
    assert page.locator("#results script, dialog script, [onerror]").count() == 0


def test_a_token_is_asked_for_and_kept_for_the_tab(browser: object, guarded: str) -> None:
    context = browser.new_context(viewport=SIZES["wide"])
    page = context.new_page()
    page.goto(guarded + "#text=red")
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    page.wait_for_selector(".card img")
    assert not page.is_visible("#enter")
    assert TOKEN not in page.url
    context.close()
