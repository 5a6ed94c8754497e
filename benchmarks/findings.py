"""Faults planted in rendered scenes, embedded by the built-in model: which of them a report names, and with which counts.

python -m benchmarks.findings --seeds 10
python -m benchmarks.findings --seeds 10 --labels    # wrong labels alone, at every rate, on the same vectors
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

import clipmill
from clipmill.core.reporter import Silent
from clipmill.core.settings import SampleSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.suspects.labels import find_confused
from clipmill.evaluation.vectors import read_vectors
from clipmill.scenes.dataset import write_scenes

ROWS = 3000
RATES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1)
SLICE = "source"
Plant = Callable[[pa.Table, float, np.random.Generator], tuple[pa.Table, int]]


def swap_captions(table: pa.Table, rate: float, rng: np.random.Generator) -> tuple[pa.Table, int]:
    """The captions of so many scenes change places; how many captions that are."""
    rows = rng.permutation(table.num_rows)[: round(rate * table.num_rows)]
    place = np.arange(table.num_rows)
    place[rows] = np.roll(rows, 1)
    captions = table.column("caption").combine_chunks()
    swapped = int(pc.sum(pc.list_value_length(captions.take(pa.array(rows)))).as_py())
    return _with(table, "caption", captions.take(pa.array(place))), swapped


def copy_images(table: pa.Table, rate: float, rng: np.random.Generator) -> tuple[pa.Table, int]:
    """So many scenes are there twice, the second time saved again as a JPEG of quality 95."""
    count = round(rate * table.num_rows)
    rows = rng.permutation(table.num_rows)[:count]
    copies = table.take(pa.array(rows))
    made = [_changed(one["bytes"], lambda picture: picture, quality=95) for one in copies.column("image").to_pylist()]
    images = pa.array([{"bytes": one, "path": None} for one in made], table.schema.field("image").type)
    return pa.concat_tables([table, _with(copies, "image", images)]), count


def mislabel(table: pa.Table, rate: float, rng: np.random.Generator) -> tuple[pa.Table, int]:
    """So many scenes of the most frequent label get that of another."""
    labels = np.array(table.column("label").to_pylist(), object)
    names, counts = np.unique(labels.astype(str), return_counts=True)
    first, second = names[np.argsort(-counts)[:2]]
    rows = rng.permutation(np.flatnonzero(labels == first))[: round(rate * len(labels))]
    labels[rows] = second
    return _with(table, "label", pa.array(labels, pa.string())), len(rows)


def blur_slice(table: pa.Table, rate: float, rng: np.random.Generator) -> tuple[pa.Table, int]:
    """So many scenes come from elsewhere, and are blurred."""
    rows = set(rng.permutation(table.num_rows)[: round(rate * table.num_rows)].tolist())
    images = [
        {"bytes": _changed(one["bytes"], lambda picture: picture.filter(ImageFilter.GaussianBlur(9))), "path": None}
        if row in rows
        else one
        for row, one in enumerate(table.column("image").to_pylist())
    ]
    sources = pa.array(["phone" if row in rows else "camera" for row in range(table.num_rows)])
    changed = _with(table, "image", pa.array(images, table.schema.field("image").type))
    return _with(changed, SLICE, sources), len(rows)


PLANTS: dict[str, Plant] = {
    "captions": swap_captions,
    "duplicates": copy_images,
    "labels": mislabel,
    "slice": blur_slice,
}


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return pa.table({one: values if one == name else table.column(one) for one in table.column_names})


def _changed(data: bytes, change: Callable[[Image.Image], Image.Image], quality: int = 90) -> bytes:
    stream = io.BytesIO()
    with Image.open(io.BytesIO(data)) as opened:
        change(opened.convert("RGB")).save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


def scenes(folder: Path, seed: int) -> pa.Table:
    """Held-out scenes of a seed, of six labels so that a class can hold a tenth of them, with a slice that means nothing."""
    write_scenes(SampleSettings(output=str(folder), rows=ROWS * 5, seed=seed, split="held-out"), Silent())
    table = pq.read_table(str(folder / "part-00000.parquet"))
    names = sorted(set(table.column("label").to_pylist()))[:: max(1, len(set(table.column("label").to_pylist())) // 6)]
    table = table.filter(pc.is_in(table.column("label"), pa.array(names))).slice(0, ROWS)
    sources = np.random.default_rng(seed).choice(["camera", "phone"], table.num_rows)
    columns = {name: table.column(name) for name in ("id", "image", "caption", "label")}
    return pa.table({**columns, SLICE: pa.array(sources)})


def reported(table: pa.Table, folder: Path) -> dict[str, int]:
    """The findings of a report over these rows, by kind."""
    folder.mkdir()
    pq.write_table(table, folder / "rows.parquet")
    clipmill.embed(folder / "rows.parquet", folder / "embeddings")
    settings = {"slice_by": (SLICE,), "bootstrap_samples": 0, "probe": False}
    report = clipmill.evaluate(folder / "embeddings", folder / "report", **settings)
    return {one.kind: one.affected for one in report.findings}


def labels_at_every_rate(table: pa.Table, folder: Path, seed: int) -> dict[float, tuple[int, int, int]]:
    """By rate, 0 among them: how many labels were made wrong, how many are told of that pair of classes, and the number of
    other pairs that are told."""
    folder.mkdir()
    pq.write_table(table.select(["id", "image", "label"]), folder / "rows.parquet")
    clipmill.embed(folder / "rows.parquet", folder / "embeddings")
    images = read_vectors(Embeddings.open(str(folder / "embeddings")), "images", folder)
    names = sorted(set(table.column("label").to_pylist()))
    found = {}
    for rate in (0.0, *RATES):
        planted, count = mislabel(table, rate, np.random.default_rng([seed, 2]))
        before, after = (
            np.array([names.index(one) for one in side.column("label").to_pylist()]) for side in (table, planted)
        )
        wrong = np.flatnonzero(before != after)
        pair = (after[wrong[0]], before[wrong[0]]) if len(wrong) else None
        told = find_confused(images, after, len(names))
        right = sum(one.count for one in told if (one.label, one.other) == pair)
        found[rate] = count, right, sum((one.label, one.other) != pair for one in told)
    return found


def labels_only(first: int, seeds: int) -> None:
    """Prints a line a rate: how often wrong labels were named with a count within a tenth, and anything else was told."""
    results = []
    for seed in range(first, first + seeds):
        with tempfile.TemporaryDirectory() as place:
            results.append(labels_at_every_rate(scenes(Path(place) / "scenes", seed), Path(place) / "labels", seed))
        print(f"seed {seed}: {results[-1]}", flush=True)
    for rate in (0.0, *RATES):
        of_rate = [one[rate] for one in results]
        named = sum(right > 0 for _, right, _ in of_rate)
        close = sum(abs(right - count) <= max(1, 0.1 * count) for count, right, _ in of_rate)
        others = sum(other > 0 for *_, other in of_rate)
        print(f"labels at {rate:.0%}: named {named} of {len(of_rate)}, within a tenth {close}, anything else {others}")


def main() -> None:
    """Prints a line a fault, rate and seed, and how often each was named with a count within a tenth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=9000)
    parser.add_argument("--labels", action="store_true", help="wrong labels alone, at every rate")
    options = parser.parse_args()
    if options.labels:
        labels_only(options.first, options.seeds)
        return
    named: dict[str, list[tuple[float, int, int]]] = {kind: [] for kind in PLANTS}
    false = []
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            table = scenes(folder / "scenes", seed)
            false.append(reported(table, folder / "clean"))
            print(f"seed {seed}, {table.num_rows:,} scenes, nothing planted: {false[-1] or 'nothing'}", flush=True)
            for number, (kind, plant) in enumerate(PLANTS.items()):
                rate = RATES[(seed + number) % len(RATES)]
                rng = np.random.default_rng([seed, number])
                planted, count = plant(table, rate, rng)
                found = reported(planted, folder / kind)
                named[kind].append((rate, count, found.get(kind, 0)))
                print(f"seed {seed}, {kind} at {rate:.0%}: planted {count:,}, told {found}", flush=True)
    for kind, results in named.items():
        close = sum(abs(found - count) <= max(1, 0.1 * count) for _, count, found in results)
        print(f"{kind}: named {sum(found > 0 for *_, found in results)} of {len(results)}, within a tenth {close}")
    print(f"nothing planted: something told in {sum(map(bool, false))} of {len(false)}")


if __name__ == "__main__":
    main()
