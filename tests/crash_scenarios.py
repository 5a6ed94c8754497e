"""The commands that `crash_points` ends: what each needs, in a folder of inputs, and what must succeed afterwards."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PICTURES = 6


@dataclass(frozen=True)
class Scenario:
    """A command that writes, in a folder that ``prepare`` filled. ``proof`` are commands that must succeed in the end.

    ``{at}`` stands for where datasets lie: nothing on a disk, a bucket on S3. ``{first}`` is the oldest version of ``out``.
    """

    name: str
    command: tuple[str, ...]
    prepare: tuple[tuple[str, ...], ...] = ()
    proof: tuple[tuple[str, ...], ...] = (("verify", "{at}made"),)
    replaces: bool = False
    """Whether the command runs once before, and then with ``--overwrite``."""

    @property
    def shown(self) -> str:
        """Its name in results."""
        return f"{self.name}{' --overwrite' if self.replaces else ''}"


_MADE = ("--output", "{at}made")
_E = ("--embeddings", "{at}e")
_EMBED = ("embed", "--input", "in", "--output", "{at}e")
MADE = (
    Scenario("import csv", ("import", "csv", "captions.csv", *_MADE)),
    Scenario("import vectors", ("import", "vectors", "--images", "v.npy", "--texts", "v.npy", *_MADE)),
    Scenario("sample", ("sample", "--rows", "5", *_MADE)),
    Scenario("embed", ("embed", "--input", "in", *_MADE)),
    Scenario("index", ("index", *_E, *_MADE), (_EMBED,)),
    Scenario("dedup", ("dedup", *_E, *_MADE), (_EMBED,)),
    Scenario("dedup by clusters", ("dedup", *_E, "--method", "clusters", *_MADE), (_EMBED,)),
    Scenario("filter", ("filter", *_E, "--where", "width > 1", *_MADE), (_EMBED,)),
    Scenario("evaluate", ("evaluate", *_E, "--templates", "plain", *_MADE), (_EMBED,)),
)
"""Each is tried towards an empty place, and over what it made before."""
LARGE = Scenario("import csv, a picture of 10 MB", ("import", "csv", "large.csv", *_MADE))
"""Uploaded in parts."""
_RUN = ("run", "run.yaml")
_MORE = ("sample", "--rows", "4", "--output", "in/more")
_VERIFY = ("verify", "{at}out")
_PRUNE = ("prune", "{at}out", "--keep", "1")
PUBLISHED = (
    Scenario("run, the first night", _RUN, (), (_VERIFY,)),
    Scenario("run, a second night", _RUN, (_RUN, _MORE), (_VERIFY,)),
    Scenario("remove", ("remove", "{at}out", "--ids", "ids.txt"), (_RUN,), (_RUN, _PRUNE, _VERIFY)),
    Scenario("prune", _PRUNE, (_RUN, _MORE, _RUN), (_VERIFY,)),
    Scenario("rollback", ("rollback", "{at}out", "--to", "{first}"), (_RUN, _MORE, _RUN), (_VERIFY,)),
)


def scenarios(only: Sequence[str], *, large: bool = False) -> Iterator[Scenario]:
    """Those whose names begin like one of ``only``; all where there is none. ``large`` adds one that takes parts."""
    for one in (*MADE, *([LARGE] if large else ()), *PUBLISHED):
        if not only or one.name.startswith(tuple(only)):
            yield one
            if one in MADE:
                yield Scenario(one.name, one.command, one.prepare, one.proof, replaces=True)


def write_inputs(folder: Path, at: str) -> None:
    """A few pictures with captions and ids as Parquet, CSV and vectors, and a run file that publishes at ``at``."""
    (folder / "in").mkdir(parents=True)
    images, names = [], [f"photo-{number}" for number in range(PICTURES)]
    for number, name in enumerate(names):
        images.append(_png(np.full((16, 20, 3), (number * 40, 90, 200 - number * 30), np.uint8)))
        (folder / f"{name}.png").write_bytes(images[-1])
    captions = [[f"a picture called {name}"] for name in names]
    pictures = [{"bytes": image, "path": f"{name}.png"} for image, name in zip(images, names, strict=True)]
    pq.write_table(pa.table({"id": names, "image": pictures, "caption": captions}), folder / "in/a.parquet")
    lines = "".join(f"{name}.png,a picture called {name}\n" for name in names)
    (folder / "captions.csv").write_text(f"image,caption\n{lines}")
    rng = np.random.default_rng(0)
    np.save(folder / "v.npy", rng.normal(size=(PICTURES, 16)).astype(np.float32))
    (folder / "ids.txt").write_text("photo-2\n")
    (folder / "large.png").write_bytes(_png(rng.integers(0, 256, (1700, 2000, 3), np.uint8)))
    (folder / "large.csv").write_text("image,caption\nlarge.png,noise\n")
    sections = {
        "embed": "input: in",
        "index": "tuning_queries: 3",
        "evaluate": "templates: plain",
        "gates": "max_row_loss: null",
    }
    text = "".join(f"{name}:\n  {body}\n" for name, body in sections.items())
    (folder / "run.yaml").write_text(f"output: {at}out\n{text}")


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
