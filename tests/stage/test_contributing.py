"""The stage on the page for contributors works as the page says."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmill import storage
from clipmill.core.errors import OutputDiffers
from clipmill.datasets.manifests import Embeddings
from clipmill.stage.status import work_towards

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def page() -> dict[str, Any]:
    """The names that the page's code defines."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


@pytest.fixture
def settings(page: dict[str, Any], clustered_embeddings: Callable[..., Embeddings], tmp_path: Path) -> Any:
    dataset = clustered_embeddings(40, 20, files=4)
    return page["WordSettings"](embeddings=dataset.location.uri, output=str(tmp_path / "words"))


def test_words_are_counted_once_and_other_settings_refused(page: dict[str, Any], settings: Any, tmp_path: Path) -> None:
    made = page["count_words"](settings)
    captions = Embeddings.open(settings.embeddings).table("captions", ["caption"]).column("caption").to_pylist()
    assert made.manifest.words == dict(Counter(word for caption in captions for word in caption.split()))
    assert json.loads((tmp_path / "words" / "words.json").read_text())["words"] == made.manifest.words
    assert page["count_words"](settings).already
    with pytest.raises(OutputDiffers, match="least: was 1, now 2"):
        page["count_words"](settings.model_copy(update={"least": 2}))


def test_a_stopped_count_continues_and_says_how_far_it_is(page: dict[str, Any], settings: Any) -> None:
    counted: list[str] = []
    words_of = page["words_of"]

    def stopped_at_the_third(embeddings: Embeddings, shard: Any) -> dict[str, int]:
        counted.append(shard.path)
        if len(counted) == 3:
            raise KeyboardInterrupt
        found: dict[str, int] = words_of(embeddings, shard)
        return found

    page["words_of"] = stopped_at_the_third
    with pytest.raises(KeyboardInterrupt):
        page["count_words"](settings)
    (work,) = work_towards(storage.resolve_output(settings.output))
    assert (work.stage, work.done, work.planned, work.doing) == ("words", 2, 4, "counting: 2 of 4")
    made = page["count_words"](settings)
    assert Counter(counted) == Counter({path: 1 + (path == counted[2]) for path in counted})
    assert not made.already
    assert not work_towards(storage.resolve_output(settings.output))
