"""Templates come by name or from a file, and a bad file is said to be one."""

from pathlib import Path

import open_clip
import pytest

from clipmill.core.errors import UserError
from clipmill.evaluation.classification.templates import load_templates, prompts


def test_named_templates_are_the_papers() -> None:
    assert len(load_templates("imagenet")) == 80
    assert len(load_templates("simple")) == 7
    assert prompts(load_templates("imagenet"), "cat") == [make("cat") for make in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert set(load_templates("simple")) <= set(load_templates("imagenet"))
    cifar = load_templates("cifar10")
    assert len(set(cifar)) == 18
    assert {"a photo of a {}.", "a low contrast photo of the {}.", "a photo of the big {}."} <= set(cifar)
    assert prompts(load_templates("plain"), "t-shirt") == ["t-shirt"]


def test_a_file_has_one_template_a_line(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("# how we write\n\n  a scan of a {}  \n{} {0}, again {}\n", encoding="utf-8")
    templates = load_templates(str(path))
    assert templates == ("a scan of a {}", "{} {0}, again {}")
    assert prompts(templates, "red_fox")[1] == "red fox {0}, again red fox"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a photo\n", "line 1"), (b"\n# only words\n", "no template"), (b"\xff\xfe{}\n", "UTF-8"), (None, "imagenet")],
)
def test_a_bad_file_is_the_users_mistake(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "templates.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_templates(str(path))
