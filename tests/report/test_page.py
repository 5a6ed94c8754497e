"""The page shows everything, needs nothing else, and cannot be broken by what it shows."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pytest
from PIL import Image

from captioned import identity, pairs
from clipmill.core.forecasts import Forecast, ForecastFigure
from clipmill.report.document import Report
from clipmill.report.page import html_text
from html_page import Page
from reported import make_report

HOSTILE = '</q><script>alert("caption")</script><img src=x onerror=alert(1)>{{ 7 * 7 }} " onmouseover="alert(2)'
IMAGES, CAPTIONS, ROWS = pairs(30, 2, noise=2.0)
PLAN = Forecast(
    basis="as version 7 took",
    figures=[
        ForecastFigure(name="embed_seconds", planned=90, low=80, high=100, unit="s", actual=100),
        ForecastFigure(name="index_bytes", planned=2e6, low=1e6, high=3e6, unit="bytes"),
    ],
)


def jpeg(path: Path) -> bytes:
    Image.new("RGB", (40, 20), (200, 30, 30)).save(path, "JPEG")
    return path.read_bytes()


def full(tmp_path: Path) -> Report:
    return make_report(
        tmp_path,
        images=IMAGES,
        captions=CAPTIONS,
        caption_rows=ROWS,
        texts=[f"{HOSTILE} {number}" for number in range(60)],
        ids=[f'id<b>{number}"' for number in range(30)],
        labels=["<i>cat</i>" if number % 2 else "dog & co" for number in range(30)],
        thumbnails=[jpeg(tmp_path / "t.jpg"), b"not a picture", None] * 10,
        model=identity(16),
    )


def test_captions_ids_and_labels_are_shown_as_text_and_nothing_else(tmp_path: Path) -> None:
    content = html_text(full(tmp_path))
    page = Page(content)
    assert page.open == []
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", content, flags=re.DOTALL)
    assert [attributes for attributes, _ in scripts] == [' type="application/json" id="data"', ""]
    assert "script>" not in "".join(text for _, text in scripts)
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    text = " ".join(page.text)
    assert HOSTILE in text
    assert "<i>cat</i>" in text
    assert html.escape("dog & co") in content


def test_the_page_asks_for_no_other_file(tmp_path: Path) -> None:
    content = html_text(full(tmp_path))
    page = Page(content)
    for _, attributes in page.tags:
        for name in ("src", "href"):
            link = attributes.get(name)
            assert link is None or link.startswith(("data:", "#"))
    assert "url(" not in content
    assert "@import" not in content
    policy = [attributes for tag, attributes in page.tags if tag == "meta" and "http-equiv" in attributes]
    assert policy[0]["content"].startswith("default-src 'none'")
    (script,) = re.findall(r"<script>(.*?)</script>", content, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy[0]["content"].endswith(f"; script-src 'sha256-{digest}'")


def test_every_link_of_the_contents_has_its_place(tmp_path: Path) -> None:
    page = Page(html_text(full(tmp_path)))
    places = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"].removeprefix("#") for tag, attributes in page.tags if tag == "a"]
    assert len(links) >= 8
    assert set(links) <= places


def test_every_figure_is_there_with_its_interval_and_definition(tmp_path: Path) -> None:
    made = full(tmp_path)
    page = Page(html_text(made))
    hovers = [attributes["title"] for _, attributes in page.tags if attributes.get("title")]
    assert made.zero_shot is not None
    for figure in [figure for part in made.retrieval for figure in part.figures] + made.zero_shot.figures:
        assert len(figure.definition) > 30
        assert any(figure.definition in hover and f"{figure.value:.6g}" in hover for hover in hovers)
        assert figure.low is not None


def test_thumbnails_are_carried_in_the_page_and_others_are_named(tmp_path: Path) -> None:
    made = full(tmp_path)
    assert made.pictures
    assert all(position % 3 == 0 for position in made.pictures)
    page = Page(html_text(made))
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert any('id<b>1"' in text for text in page.text)


def test_a_page_of_very_many_pictures_stays_small(tmp_path: Path) -> None:
    images, captions, rows = pairs(6000, 1, noise=2.0)
    noise = np.random.default_rng(0).integers(0, 256, (30, 160, 160, 3), np.uint8)
    thumbnails = []
    for one in noise:
        Image.fromarray(one).save(tmp_path / "t.jpg", "JPEG", quality=90)
        thumbnails.append((tmp_path / "t.jpg").read_bytes())
    labels = [f"a label of some length {number % 900}" for number in range(6000)]
    made = make_report(
        tmp_path,
        images=images,
        captions=captions,
        caption_rows=rows,
        texts=["word " * 60] * 6000,
        thumbnails=thumbnails * 200,
        labels=labels,
    )
    assert made.map is not None
    assert made.listed is not None
    assert len(made.map.images) == 2000
    assert made.listed.asked == {"t2i": 6000, "i2t": 6000}
    assert len(made.listed.queries) == 480
    assert len(html_text(made).encode()) <= 5_000_000


def test_rows_lead_to_the_page_of_explore_where_an_index_is_known(tmp_path: Path) -> None:
    made = full(tmp_path)
    assert "localhost" not in html_text(made)
    place = f"{tmp_path}/nightly"
    dataset = made.dataset.model_copy(update={"uri": f"{place}/runs/20260102T000000Z-1a2b3c4d/embeddings"})
    page = Page(html_text(made.model_copy(update={"dataset": dataset})))
    assert f"clipmill explore {place}" in page.text
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a" and "target" in attributes]
    assert made.listed is not None
    assert len(links) == len(made.listed.queries)
    for link, query in zip(links, made.listed.queries, strict=True):
        start, _, asked = link.partition("#")
        assert start == "http://localhost:8000/"
        if query.task == "t2i":
            assert parse_qs(asked) == {"text": [query.text]}
        else:
            assert json.loads(parse_qs(asked)["parts"][0]) == [{"id": query.id, "weight": 1}]


def test_queries_are_listed_as_they_came_out(tmp_path: Path) -> None:
    made = full(tmp_path)
    assert made.listed is not None
    scores = IMAGES.astype(np.float64) @ CAPTIONS.astype(np.float64).T
    queries = [query for query in made.listed.queries if query.task == "t2i"]
    for number, query in enumerate(queries):
        own = ROWS[number]
        assert query.image == own
        assert query.text == f"{HOSTILE} {number}"
        assert query.rank == 1 + np.sum(scores[:, number] > scores[own, number])
        assert query.label == ("<i>cat</i>" if own % 2 else "dog & co")
    classified = [query for query in made.listed.queries if query.task == "zero-shot"]
    assert all((query.given == query.label) == (query.hit == 1) for query in classified)
    assert 0 < sum(query.hit for query in classified) < len(classified) == 30


@pytest.mark.parametrize(("images", "captions"), [(0, 0), (1, 0), (0, 2), (1, 2)])
def test_a_report_of_almost_nothing_says_what_is_missing(tmp_path: Path, images: int, captions: int) -> None:
    made = make_report(
        tmp_path,
        images=IMAGES[:images],
        captions=CAPTIONS[:captions],
        caption_rows=ROWS[:captions],
        rejected_images=4,
    )
    page = Page(html_text(made))
    text = re.sub(r"\s+", " ", " ".join(page.text))
    assert made.absences
    for absence in made.absences:
        assert absence.why in text
    assert "4 images could not be used" in text
    assert page.open == []


def test_what_was_planned_stands_beside_what_it_was(tmp_path: Path) -> None:
    made = full(tmp_path)
    assert "Planned" not in html_text(made)
    text = " ".join(" ".join(Page(html_text(made.model_copy(update={"plan": PLAN}))).text).split())
    assert "as version 7 took" in text
    assert "time to embed 90.0 s 80.0 s to 100.0 s 100.0 s −10.0%" in text
    assert "index, on disk or S3 2 MB 1 MB to 3 MB not known" in text


def test_a_model_without_a_temperature_is_shown_without_one(tmp_path: Path) -> None:
    dataset = {"images": IMAGES, "captions": CAPTIONS, "caption_rows": ROWS}
    for name, scale in (("with", 50.0), ("without", None)):
        model = identity(16).model_copy(update={"logit_scale": scale})
        (tmp_path / name).mkdir()
        content = html_text(make_report(tmp_path / name, model=model, **dataset))
        assert "tag, 16 dimensions" in content
        assert ("τ = 0.02" in content) == (scale is not None)
