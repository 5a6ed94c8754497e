"""The parts of `benchmarks.throughput` that run in a process of their own, on one thread: the bare encoder on tensors in
memory, each stage alone, and a plain loop of Pillow and torch. Prints images per CPU second as JSON.

    python -m benchmarks.throughput_parts bare|stages|loop|captions INPUT.parquet MODEL_FOLDER PRECISION IMAGES
"""

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from clipmill import storage
from clipmill.core.settings import EmbedSettings, ModelSettings
from clipmill.embedding.plan import find_source, make_plan
from clipmill.embedding.statistics import Statistics
from clipmill.embedding.steps import read_rows
from clipmill.embedding.unit import decode_unit, encode_unit, tokenise_unit
from clipmill.encoders.model import ClipModel, load_model
from clipmill.source.decode import decode_image
from clipmill.source.image_files import load_image_bytes
from clipmill.stage.units.commit import commit_unit, pack_unit

BATCH = 32


def model_of(folder: str, precision: str) -> ClipModel:
    settings: dict[str, Any] = {"precision": precision}
    if folder != "builtin":
        settings["pretrained"] = f"local-dir:{folder}"
    return load_model(ModelSettings(**settings), device="cpu")


def pictures(source: str, count: int) -> list[bytes]:
    values = pq.read_table(source, columns=["image"]).column("image")[:count]
    return [value.as_py() for value in values]


def bare(source: str, folder: str, precision: str, count: int) -> dict[str, float]:
    model = model_of(folder, precision)
    prepared = [model.preprocessing.prepare(decode_image(data, 10**9)) for data in pictures(source, count)]
    pixels = torch.stack(prepared)
    model.encode_images(pixels[:BATCH])
    return {"bare": count / _cpu(lambda: model.encode_images(pixels))}


def stages(source: str, folder: str, precision: str, count: int) -> dict[str, float]:
    """Each stage over all units before the next begins."""
    model = model_of(folder, precision)
    with tempfile.TemporaryDirectory() as place:
        settings = EmbedSettings(input=source, output=f"{place}/out", limit=count)
        plan = make_plan(settings, find_source(settings), model.identity, model.preprocessing)
        spent: dict[str, float] = {}

        def timed(name: str, values: Iterator[Any]) -> list[Any]:
            made: list[Any] = []
            spent[name] = _cpu(lambda: made.extend(values))
            return made

        def load(path: str, beside: str) -> bytes:
            return load_image_bytes(path, storage.resolve(beside))

        units = read_rows(plan.units, plan.inputs, plan.columns)
        raw = timed("read", (table for _, table, _ in units))

        def decode(unit: pa.Table) -> pa.Table:
            return tokenise_unit(decode_unit(unit, model.preprocessing, 10**9, None, load), model.tokenizer)

        warm = decode(raw[0].slice(0, BATCH))
        decoded = timed("decode", (decode(unit) for unit in raw))
        encode_unit(model, warm, plan.parts.kept, thumbnails=False)
        done = timed("encode", (encode_unit(model, unit, plan.parts.kept, thumbnails=False) for unit in decoded))
        plan.staging.open()

        def write(number: int) -> None:
            packed = pack_unit(done[number].tables, Statistics.of(done[number], decoded[number].num_rows))
            commit_unit(plan.layout, number, packed)

        timed("write", (write(number) for number in range(len(done))))
    rates = {name: count / seconds for name, seconds in spent.items()}
    together = {"read and decode": count / (spent["read"] + spent["decode"]), "all stages": count / sum(spent.values())}
    return {**rates, **together}


def loop(source: str, folder: str, precision: str, count: int) -> dict[str, float]:
    """What one writes first: Pillow, open_clip's transform, batches of 32, a file at the end."""
    place = str(Path(__file__).parents[1] / "pipeline/clipmill/encoders/builtin") if folder == "builtin" else folder
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{place}")
    network.eval()
    data = pictures(source, count)

    def run() -> None:
        vectors = []
        for start in range(0, count, BATCH):
            opened = [Image.open(io.BytesIO(one)).convert("RGB") for one in data[start : start + BATCH]]
            with torch.inference_mode():
                batch = torch.stack([transform(picture) for picture in opened])
                vectors.append(network.encode_image(batch, normalize=True).numpy())
        with tempfile.TemporaryFile() as file:
            np.save(file, np.concatenate(vectors))

    return {"loop": count / _cpu(run)}


def captions(source: str, folder: str, precision: str, count: int) -> dict[str, float]:
    """Captions per CPU second, cut and deduplicated, and all at the full context length; and how well they agree."""
    model = model_of(folder, precision)
    texts = [text for row in pq.read_table(source).column("caption").to_pylist() for text in row][:count]
    made: dict[str, np.ndarray] = {}
    model.encode_texts(texts[:BATCH])
    cut = _cpu(lambda: made.update(cut=model.encode_texts(texts)))

    def whole() -> None:
        tokens = model.tokenizer(texts)
        with torch.inference_mode():
            parts = [
                model.network.encode_text(tokens[start : start + BATCH], normalize=True)  # type: ignore[operator]
                for start in range(0, len(texts), BATCH)
            ]
        made["whole"] = torch.cat(parts).numpy()

    full = _cpu(whole)
    least = float((made["cut"] * made["whole"]).sum(axis=1).min())
    return {"cut": count / cut, "whole": count / full, "minimum cosine": least}


def _cpu(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    part, source, folder, precision, count = sys.argv[1:]
    torch.set_num_threads(1)
    run = {"bare": bare, "stages": stages, "loop": loop, "captions": captions}[part]
    print(json.dumps(run(source, folder, precision, int(count))))


if __name__ == "__main__":
    main()
