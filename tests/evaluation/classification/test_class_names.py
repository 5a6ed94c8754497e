"""Class names come from a file or from ImageNet, and a label without one is said to be."""

from pathlib import Path

import open_clip
import pytest

from clipmill.core.errors import UserError
from clipmill.evaluation.classification.class_names import load_class_names


def written(tmp_path: Path, name: str, content: str) -> str:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return str(path)


def test_imagenet_names_its_numbers() -> None:
    labels, names = load_class_names("imagenet").of("label", ["0", "999"])
    assert (len(labels), labels[999]) == (1000, "999")
    assert names == tuple(open_clip.IMAGENET_CLASSNAMES)


def test_lines_name_numbers_or_say_which_words_there_are(tmp_path: Path) -> None:
    names = load_class_names(written(tmp_path, "n.txt", "cat\n\n dog \nred fox\n"))
    assert names.of("label", ["2", "0"]) == (("0", "1", "2"), ("cat", "dog", "red fox"))
    assert names.of("label", ["dog"]) == (("cat", "dog", "red fox"), ("cat", "dog", "red fox"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("n.csv", 'name,label\n"cat, tabby",n01\ndog,n02\n'), ("n.json", '{"n01": "cat, tabby", "n02": "dog"}')],
)
def test_csv_and_json_map_labels_to_names(tmp_path: Path, name: str, content: str) -> None:
    found = load_class_names(written(tmp_path, name, content))
    assert found.of("label", ["n02"]) == (("n01", "n02"), ("cat, tabby", "dog"))


@pytest.mark.parametrize("values", [["0", "3"], ["cat", "wolf"], ["-1", "0"]])
def test_a_label_without_a_name_is_refused_by_name(tmp_path: Path, values: list[str]) -> None:
    names = load_class_names(written(tmp_path, "n.txt", "cat\ndog\nfox\n"))
    with pytest.raises(UserError, match=r"no name for .* of the 2 labels in the column kind: '(3|wolf|-1)'"):
        names.of("kind", values)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("n.txt", "\n", "no names"),
        ("n.csv", "id,word\n1,cat\n", "`label` and `name`"),
        ("n.csv", "label,name\n1,cat\n1,dog\n", "'1' more than once"),
        ("n.csv", "label,name\n1\n", "empty name"),
        ("n.json", "{", "not JSON"),
        ("n.json", '{"a": 3}', "object from label to name"),
    ],
)
def test_a_bad_file_is_the_users_mistake(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_class_names(written(tmp_path, name, content))


def test_a_file_that_is_not_there_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_class_names("nowhere.txt")
