"""Near-duplicates by clusters beside exact comparison: what share of pairs is found, for how much CPU time, and how that grows.

    python -m benchmarks.near_duplicates --rows 100000 --rows 300000 --output docs/near_duplicates.md
    python -m benchmarks.near_duplicates --rows 100000 --rows 300000 --rows 1000000 --output docs/near_duplicates.md

Vectors are those of `benchmarks.clip_vectors`, of two kinds. ``spread``: a cluster for every four rows, since a collection that
grows brings new subjects; pairs from a cosine of .95 on. ``crowded``: 4,096 clusters however many rows there are, so that pairs
grow with the square of the rows and lie close together, where clusters are hardest to tell apart; pairs from .96 on. Among them
a twentieth of the rows is replaced by near-copies of others, evenly over the cosines from the threshold to 1: half of them
aside in any direction (noise), half towards another row (as an edit that changes what is shown).

Recall of planted pairs is that of all of them. Recall of other pairs is that of the pairs of a twentieth of the rows, which are
compared with all rows exactly. The CPU time of exact comparison is scaled from the same: its comparisons by the pairs that
there are in all, reading and preparing vectors by how often it does so.
"""

import argparse
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.clip_vectors import DIMENSION, ClipVectors
from benchmarks.index import machine
from clipmill.core.intervals import proportion_interval
from clipmill.core.manifests import DuplicatesManifest, Interval
from clipmill.core.near_pairs import short
from clipmill.core.reporter import Silent
from clipmill.core.settings import DedupSettings
from clipmill.curate import steps
from clipmill.curate.dedup import Dedup, make_dedup
from clipmill.curate.graph import find_duplicates
from clipmill.curate.margins import BAND, bands_of, edges
from clipmill.curate.near import Comparison, Pairs, Tile
from clipmill.curate.strips import read_strip
from clipmill.engine.here import Here
from clipmill.stage.stage import Work
from tests.clustered import write_embeddings

Kind = Literal["spread", "crowded"]
KINDS: dict[Kind, float] = {"spread": 0.95, "crowded": 0.96}
"""The least cosine of a pair, by kind of vectors."""
SHARE = 20
"""One row in so many is planted, and one in so many compared exactly."""
PAGE = """# Near-duplicates by clusters

`clipmill dedup --method clusters` compares rows within clusters, and not all with all
([how](design.md#near-duplicates-all-pairs-or-clusters)). This is what share of pairs it finds, and for how much of the time of
`--method exact`:

{command}

{machine}, one thread. The vectors are generated to be like those of a CLIP model.
*Spread*: a cluster for every four rows, since a collection that grows brings new subjects; pairs from a cosine of .95 on.
*Crowded*: 4,096 clusters however many rows there are, so that pairs grow with the square of the rows, and lie where clusters
are hardest to tell apart; pairs from .96 on.

The CPU seconds of clusters are those of the whole command without its imports: training, reading, comparing, measuring its own
recall, writing. Those of exact comparison are scaled from {share} of the rows, compared with all.

{costs}

{growth}

## Recall

*Planted*: near-copies at known cosines, one for every twenty rows, half of them aside in any direction and half towards another
row. *Natural*: all other pairs of {share} of the rows. *Told*: what the command itself measured, on 3,072 other rows. Intervals
(95%) take rows for what was drawn, not their pairs; the last number counts pairs.

{recalls}
"""


@dataclass(frozen=True)
class Planted:
    """Vectors (n, d) among which row ``copies[i]`` is a near-copy of row ``originals[i]``."""

    vectors: NDArray[np.float16]
    originals: NDArray[np.int64]
    copies: NDArray[np.int64]


@dataclass(frozen=True)
class Cost:
    """CPU seconds of finding near-duplicates, and bytes: most memory of the process, and files staged beside the dataset."""

    manifest: DuplicatesManifest
    seconds: float
    memory: int
    staged: int


@dataclass(frozen=True)
class Trial:
    """One number of rows of one kind of vectors: CPU seconds, and recalls by what they are of and by band."""

    kind: Kind
    cost: Cost
    exact_seconds: float
    recalls: dict[str, list[Interval | None]]


def plant(kind: Kind, rows: int, seed: int) -> Planted:
    """Vectors of a kind, with near-copies."""
    pairs = ClipVectors(seed, clusters=rows // 4, power=0.5) if kind == "spread" else ClipVectors(seed)
    vectors, _ = pairs.make(rows, 1)
    rng = np.random.default_rng([seed, 3])
    chosen = rng.permutation(rows)[: 2 * (rows // SHARE)]
    originals, copies = np.split(chosen, 2)
    whole = vectors[originals].astype(np.float32)
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    aside = rng.standard_normal((len(copies), DIMENSION)).astype(np.float32)
    half = len(copies) // 2
    aside[:half] = vectors[rng.integers(0, rows, half)].astype(np.float32) - whole[:half]
    aside -= np.einsum("ij,ij->i", aside, whole)[:, None] * whole
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    cosine = rng.uniform(KINDS[kind], 1, len(copies)).astype(np.float32)[:, None]
    vectors[copies] = cosine * whole + np.sqrt(1 - cosine**2) * aside
    return Planted(vectors, originals, copies)


def compare_exactly(dedup: Dedup, drawn: NDArray[np.int64], vectors: NDArray[np.float16]) -> tuple[Pairs, float]:
    """All pairs of the drawn rows, as (drawn row, other row); and the CPU seconds that exact comparison of all rows takes."""
    turned, n, strips = steps.rotation(dedup), dedup.gallery.n, dedup.strips
    asked = Tile.of(0, vectors[drawn], turned)
    found, preparing, comparing = [], 0.0, 0.0
    for strip in strips:
        began = time.process_time()
        here = Tile.of(0, read_strip(dedup.gallery, strip), turned)
        ready = time.process_time()
        pairs = Pairs.join(
            Comparison.of(asked, here, dedup.settings.threshold).across(np.arange(len(drawn)), here.active)
        )
        preparing, comparing = preparing + ready - began, comparing + time.process_time() - ready
        found.append(Pairs(drawn[pairs.first], pairs.second + strip.start, pairs.cosine))
    all_pairs = Pairs.join(found)
    others = all_pairs.first != all_pairs.second
    pairs = Pairs(all_pairs.first[others], all_pairs.second[others], all_pairs.cosine[others])
    seconds = comparing * (n - 1) / (2 * len(drawn)) + preparing * (len(strips) + 1) / 2
    return pairs, seconds


def find(settings: DedupSettings) -> Cost:
    """Finds near-duplicates in this process, which does nothing else."""
    dedup = make_dedup(settings)
    staged = 0

    def work(work: Work) -> DuplicatesManifest:
        nonlocal staged
        manifest = find_duplicates(dedup, work, Here(1), Silent())
        staged = sum(file.stat().st_size for file in Path(work.folder.path).rglob("*") if file.is_file())
        return manifest

    began = time.process_time()
    manifest = dedup.run(work).manifest
    seconds = time.process_time() - began
    return Cost(manifest, seconds, peak_memory(), staged)


def peak_memory() -> int:
    """Most bytes that this process held. What the system counts as ``ru_maxrss`` begins with those of the process that
    started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def try_one(kind: Kind, rows: int, seed: int, folder: Path) -> Trial:
    """Finds near-duplicates both ways."""
    planted = plant(kind, rows, seed)
    embeddings = write_embeddings(
        folder / "embeddings", planted.vectors, planted.vectors[:1], row_group_size=8192, plain=True
    )
    settings = DedupSettings(
        embeddings=str(embeddings), output=str(folder / "found"), threshold=KINDS[kind], method="clusters"
    )
    dedup = make_dedup(settings)
    with multiprocessing.get_context("spawn").Pool(1) as process:
        cost = process.apply(find, (settings,))
    table = pq.read_table(folder / "found/pairs.parquet", columns=["row_a", "row_b"])
    found = table.column("row_a").to_numpy() * rows + table.column("row_b").to_numpy()
    dedup.staging.open()
    steps.rotate(dedup)
    drawn = np.sort(np.random.default_rng([seed, 4]).choice(rows, rows // SHARE, replace=False))
    natural, exact_seconds = compare_exactly(dedup, drawn, planted.vectors)
    keys = np.minimum(planted.originals, planted.copies) * rows + np.maximum(planted.originals, planted.copies)
    whole = planted.vectors.astype(np.float32)
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    cosines = np.einsum("ij,ij->i", whole[planted.originals], whole[planted.copies])
    reach = cosines >= KINDS[kind]
    natural_keys = np.minimum(natural.first, natural.second) * rows + np.maximum(natural.first, natural.second)
    other = ~np.isin(natural_keys, keys)
    recalls = {
        "planted": by_band(np.isin(keys[reach], found), cosines[reach], planted.copies[reach], KINDS[kind]),
        "natural": by_band(
            np.isin(natural_keys[other], found), natural.cosine[other], natural.first[other], KINDS[kind]
        ),
    }
    told = cost.manifest.recall
    assert told is not None
    recalls["told"] = [told.recall, *(band.recall for band in told.bands)]
    return Trial(kind, cost, exact_seconds, recalls)


def by_band(
    is_found: NDArray[np.bool_], cosine: NDArray[np.float32], rows: NDArray[np.int64], threshold: float
) -> list[Interval | None]:
    """The share found of all pairs (p,), then of those of each band; None where there is none."""
    bands = bands_of(cosine, threshold)
    chosen = [np.ones(len(cosine), bool), *(bands == band for band in range(len(edges(threshold))))]
    return [
        proportion_interval(is_found[these].astype(float), rows[these]) if these.any() else None for these in chosen
    ]


def costs(trials: list[Trial]) -> str:
    text = [
        "| vectors | rows | pairs | clusters, CPU s | exact, CPU s (scaled) | share | cells | cells a row looks into | rows it "
        "is compared with | peak memory | staged beside the dataset |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for trial in trials:
        cost, manifest, clusters = trial.cost, trial.cost.manifest, trial.cost.manifest.clusters
        assert clusters is not None
        text.append(
            f"| {trial.kind} | {manifest.n:,} | {manifest.pairs:,} | {cost.seconds:,.0f} | {trial.exact_seconds:,.0f} "
            f"| {cost.seconds / trial.exact_seconds:.3f} | {clusters.cells:,} | {clusters.looks:.1f} "
            f"| {clusters.compared:,.0f} | {cost.memory / 1e9:.1f} GB | {cost.staged / 1e9:.2f} GB |"
        )
    return "\n".join(text)


def growth(trials: list[Trial]) -> str:
    told = []
    for kind in KINDS:
        line = [trial for trial in trials if trial.kind == kind]
        if len(line) > 1:
            first, last = line[0], line[-1]
            ratio = np.log(last.cost.manifest.n / first.cost.manifest.n)
            powers = [
                np.log(after / before) / ratio
                for before, after in (
                    (first.cost.seconds, last.cost.seconds),
                    (first.exact_seconds, last.exact_seconds),
                    (first.cost.manifest.pairs, last.cost.manifest.pairs),
                )
            ]
            told.append(
                f"From {first.cost.manifest.n:,} to {last.cost.manifest.n:,} rows, {kind}, CPU time grows as "
                f"n^{powers[0]:.2f}, that of exact comparison as n^{powers[1]:.2f}, and pairs as n^{powers[2]:.2f}."
            )
    return "\n\n".join(told)


def recalls(trials: list[Trial]) -> str:
    text = []
    for kind, threshold in KINDS.items():
        if not any(trial.kind == kind for trial in trials):
            continue
        lows = edges(threshold)
        names = ["all", *(f"{short(low)} to {short(min(1.0, low + BAND))}" for low in lows)]
        text += [
            f"| {kind}, rows | pairs | {' | '.join(names)} |",
            "|---|---|" + "---|" * len(names),
            *(
                f"| {trial.cost.manifest.n:,} | {what} | {' | '.join(cell(one) for one in measured)} |"
                for trial in trials
                if trial.kind == kind
                for what, measured in trial.recalls.items()
            ),
            "",
        ]
    return "\n".join(text).rstrip()


def cell(recall: Interval | None) -> str:
    """A recall with its interval and the number of pairs."""
    if recall is None:
        return "no pair"
    return f"{recall.value:.4f} ({short(recall.low)} to {short(recall.high)}; {recall.n:,})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", required=True)
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="Default: both.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a page for the tables")
    arguments = parser.parse_args()
    trials: list[Trial] = []
    for rows in arguments.rows:
        for kind in arguments.kind or KINDS:
            with tempfile.TemporaryDirectory() as folder:
                trials.append(try_one(kind, rows, arguments.seed, Path(folder)))
            text = page(sorted(trials, key=lambda trial: list(KINDS).index(trial.kind)), arguments.rows)
            if arguments.output:
                arguments.output.write_text(text, encoding="utf-8")
    print(text)


def page(trials: list[Trial], rows: list[int]) -> str:
    """The page of what was tried so far; it is written anew after every trial, since a large one takes long."""
    command = " ".join(f"--rows {number}" for number in rows)
    return PAGE.format(
        command=f"    python -m benchmarks.near_duplicates {command} --output docs/near_duplicates.md",
        machine=machine(),
        share=f"1/{SHARE}",
        costs=costs(trials),
        growth=growth(trials),
        recalls=recalls(trials),
    )


if __name__ == "__main__":
    main()
