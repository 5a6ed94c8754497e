"""Every row is met once an epoch, in an order that seed and step decide, whatever step a run begins at."""

import hashlib
import io
import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from clipmill.core.errors import UserError
from clipmill.encoders.preprocess import Preprocessing
from clipmill.train import batches as module
from clipmill.train import rows
from clipmill.train.augment import Augmentation
from clipmill.train.batches import Batch, Sampling, ahead, batches
from clipmill.train.rows import Source, examples

PREPROCESSING = Preprocessing((8, 8), (0, 0, 0), (1, 1, 1), "bicubic", "shortest")


def picture(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def write(folder: Path, rows: int, per_file: int = 25, **columns: list) -> str:
    """Images whose brightness is their row number; captions say it too."""
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "image": [picture(n) for n in range(rows)],
        "caption": [[f"number {n}", f"no. {n}"] for n in range(rows)],
        **columns,
    }
    for start in range(0, rows, per_file):
        part = {name: values[start : start + per_file] for name, values in table.items()}
        pq.write_table(pa.table(part), folder / f"part-{start:05d}.parquet", row_group_size=10)
    return str(folder)


def source(uri: str) -> Source:
    return Source.open(uri, PREPROCESSING, None, None)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as threads:
        yield threads


def take(
    count: int,
    data: Source,
    pool: ThreadPoolExecutor,
    size: int = 16,
    seed: int = 0,
    first: int = 0,
    rank: int = 0,
    workers: int = 1,
    **sampling: Any,
) -> list[Batch]:
    chosen = Sampling(size, seed, **{"negative_share": 0.5, **sampling})
    return list(itertools.islice(batches(data, chosen, first, pool, rank, workers), count))


def numbers(batch: Batch) -> list[int]:
    return batch.pixels[:, 0, 0, 0].tolist()


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.pixels, other.pixels)
        and (one.texts, one.negatives) == (other.texts, other.negatives)
        and one.captions == other.captions
    )


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several units and windows in a few rows."""
    monkeypatch.setattr(rows, "rows_per_unit", lambda height, width, rows: 10)
    monkeypatch.setattr(module, "_WINDOW_UNITS", 3)


def test_an_epoch_meets_every_row_once(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    data = source(write(tmp_path / "in", 96))
    for epoch in range(2):
        met = Counter(number for batch in take(12, data, pool, 8, first=12 * epoch) for number in numbers(batch))
        assert met == Counter(range(96))


def test_captions_belong_to_their_images(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    for batch in take(10, source(write(tmp_path / "in", 96)), pool):
        assert [int(text.split()[-1]) for text in batch.texts] == numbers(batch)


def test_the_order_is_decided_by_the_seed(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    data = source(write(tmp_path / "in", 96))
    first, again, other = take(5, data, pool), take(5, data, pool), take(5, data, pool, seed=1)
    assert all(same(*pair) for pair in zip(first, again, strict=True))
    assert [numbers(batch) for batch in first] != [numbers(batch) for batch in other]
    assert numbers(first[0]) != sorted(numbers(first[0]))


@pytest.mark.parametrize("first", [1, 4, 6, 7, 13])
def test_a_run_that_begins_later_sees_the_same_batches(tmp_path: Path, pool: ThreadPoolExecutor, first: int) -> None:
    """Batches of 16 of 100 rows: six an epoch, of which several span two windows."""
    data = source(write(tmp_path / "in", 100))
    whole = take(16, data, pool)
    assert all(same(*pair) for pair in zip(whole[first:], take(16 - first, data, pool, first=first), strict=True))


def test_rows_that_cannot_be_used_are_left_out(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    images: list = [picture(n) for n in range(40)]
    captions: list = [[f"number {n}"] for n in range(40)]
    images[3], images[4], images[5] = None, b"not an image", b""
    captions[6], captions[7], captions[8] = None, [], [None, " ", "number 8"]
    data = source(write(tmp_path / "in", 40, image=images, caption=captions))
    met = {number for batch in take(5, data, pool, 8) for number in numbers(batch)}
    assert met == set(range(40)) - {3, 4, 5, 6, 7}
    assert [int(example.pixels[0, 0, 0]) for example in examples(data, pool, 5)] == [0, 1, 2, 8, 9]


def test_data_without_anything_to_learn_from_is_a_clear_error(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with pytest.raises(UserError, match="at least two"):
        take(1, source(write(tmp_path / "one", 1)), pool)
    broken = source(write(tmp_path / "broken", 20, image=[b"broken"] * 20))
    with pytest.raises(UserError, match="readable image"):
        take(1, broken, pool)
    pq.write_table(pa.table({"image": [picture(1)]}), tmp_path / "images.parquet")
    with pytest.raises(UserError, match="--caption-column"):
        source(str(tmp_path / "images.parquet"))


def test_negatives_come_from_their_column_and_need_not_be_there(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    without = take(1, source(write(tmp_path / "without", 32)), pool)[0]
    assert without.negatives == []
    negatives = [[f"not {n}"] if n % 2 else None for n in range(32)]
    data = source(write(tmp_path / "with", 32, negative_caption=negatives))
    (batch,) = take(1, data, pool, 32, negative_share=1.0)
    assert sorted(batch.negatives) == sorted(f"not {n}" for n in range(32) if n % 2)


def test_false_captions_are_made_of_true_ones_where_the_input_has_none(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    captions = [["a dog left of a cat"] if n % 2 else ["nothing to exchange"] for n in range(32)]
    data = source(write(tmp_path / "in", 32, caption=captions))
    (batch,) = take(1, data, pool, 32, negative_share=1.0, exchange_words=True)
    assert len(batch.negatives) == 16
    assert set(batch.negatives) <= {"a dog right of a cat", "a cat left of a dog"}
    (half,) = take(1, data, pool, 32, negative_share=0.5, exchange_words=True)
    assert 0 < len(half.negatives) <= 16


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_workers_share_what_one_would_have(tmp_path: Path, pool: ThreadPoolExecutor, workers: int) -> None:
    """The same rows in the same order, with the same captions, negatives and alterations."""
    negatives = [[f"not {n}", f"never {n}"] for n in range(100)]
    data = source(write(tmp_path / "in", 100, negative_caption=negatives))
    altered = {"augmentation": Augmentation.of(("colour",))}
    whole = take(8, data, pool, **altered)
    shared = [take(8, data, pool, rank=rank, workers=workers, **altered) for rank in range(workers)]
    for step, batch in enumerate(whole):
        parts = [of_one[step] for of_one in shared]
        assert torch.equal(torch.cat([part.pixels for part in parts]), batch.pixels)
        assert [text for part in parts for text in part.texts] == batch.texts
        assert [text for part in parts for text in part.negatives] == batch.negatives
        assert max(len(part.texts) for part in parts) - min(len(part.texts) for part in parts) <= 1


def test_more_workers_than_rows_of_a_batch_are_refused(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with pytest.raises(UserError, match="--workers"):
        take(1, source(write(tmp_path / "in", 20)), pool, 4, workers=5)


def test_making_batches_ahead_changes_nothing_and_passes_errors_on() -> None:
    assert list(ahead(iter(range(1, 6)))) == [1, 2, 3, 4, 5]

    def broken():
        yield 1
        raise UserError("broken")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(UserError, match="broken"):
        next(items)


def test_labels_become_captions_by_templates(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    folder = write(tmp_path / "in", 24, kind=["big_dog" if n % 2 else "cat" for n in range(24)])
    data = Source.open(folder, PREPROCESSING, None, None, labels=("kind", ("a {}", "the {}")))
    (batch,) = take(1, data, pool, 24)
    for number, text, captions in zip(numbers(batch), batch.texts, batch.captions, strict=True):
        name = "big dog" if number % 2 else "cat"
        assert captions == (f"a {name}", f"the {name}")
        assert text in captions
    assert [example.label for example in examples(data, pool, 3)] == ["cat", "big_dog", "cat"]


def test_pictures_that_are_held_out_are_not_learned_whatever_file_they_are_in(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    """By the bytes of the picture: the held-out rows have other places and other captions."""
    data = source(write(tmp_path / "in", 40))
    held_out = source(write(tmp_path / "held-out", 3, image=[picture(n) for n in (7, 21, 39)]))
    assert held_out.contents() == {hashlib.sha256(picture(n)).digest() for n in (7, 21, 39)}
    kept = replace(data, without=held_out.contents())
    met = {number for batch in take(5, kept, pool, 8) for number in numbers(batch)}
    assert met == set(range(40)) - {7, 21, 39}
    with pytest.raises(UserError, match="are not held out by --validation"):
        take(1, replace(data, without=data.contents()), pool)
