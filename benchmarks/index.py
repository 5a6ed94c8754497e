"""The index beside others, in one run on the same generated vectors: time to build, bytes, recall and time of a query.

Every library builds with ``--threads`` and answers on one thread, pinned to one core. Recall is 10-recall@10 against exact
search, of text queries that no library was tuned on; times are medians of rounds in which the libraries take turns.
autofaiss is given the memory that the index of clipmill takes and tunes itself; of the others the fastest search setting of a
ladder is taken that reaches the target on other text queries, which is not counted as time to build. Peers run in
environments of their own below ``--environments``, made with pip where they are not there.

    python -m benchmarks.index --peers scann,scann-fine,autofaiss,hnswlib,usearch,lancedb --output docs/index_benchmark.md
    python -m benchmarks.index --rows 200000 --seeds 3    # clipmill alone, at targets of .90, .95 and .99
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.clip_vectors import ClipVectors
from clipmill.core.settings import IndexSettings
from clipmill.index.build.build import Build, make_build
from clipmill.index.build.operate import tune_all
from clipmill.index.build.queries import draw_queries
from clipmill.index.search.exact import exact_top_k
from clipmill.index.search.open import open_index
from clipmill.index.search.recall import hits
from tests.clustered import write_embeddings
from tests.indexing import run_here

K = 10
TUNING = 2000
"""Queries to tune on; clipmill confirms with as many again."""
BYTES_A_VECTOR = 100
TARGETS = (0.90, 0.95, 0.99)
ONE_SIDED = 3.09
"""Standard errors of a one-sided 99.9% bound."""
FASTER = "clipmill-faster"
"""The index of clipmill once more, with search settings that give the recall of autofaiss and not the target."""
OURS = ("clipmill", FASTER)
PACKAGES = {
    "autofaiss": ["numpy==1.26.4", "pyarrow==15.0.2", "faiss-cpu==1.11.0", "autofaiss==2.18.0"],
    "peers": ["numpy", "pyarrow", "hnswlib==0.8.0", "usearch==2.26.6", "lancedb==0.40.0"],
    "scann": ["numpy", "scann==1.4.2"],
}
_WORKER = Path(__file__).with_name("index_peers.py")
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "TOKIO_WORKER_THREADS",
        "LANCE_CPU_THREADS",
        "LANCE_IO_THREADS",
    ),
    "1",
)


@dataclass(frozen=True)
class Trial:
    """Vectors of one seed on disk: ``queries`` are neither tuned on nor confirmed with; ``exact`` are their results."""

    folder: Path
    images: NDArray[np.float16]
    queries: NDArray[np.float32]
    exact: tuple[NDArray[np.float32], NDArray[np.int64]]

    @classmethod
    def make(cls, folder: Path, rows: int, queries: int, seed: int, threads: int) -> "Trial":
        images, texts = ClipVectors(seed).make(rows, 2 * TUNING + queries)
        write_embeddings(folder / "embeddings", images, texts[: 2 * TUNING], row_group_size=8192)
        unseen = texts[2 * TUNING :].astype(np.float32)
        return cls(folder, images, unseen, exact_results(images, unseen, threads))

    def recalls(self, found: NDArray[np.int64]) -> NDArray[np.float64]:
        """10-recall@10 of each query; rows of equal score are equally right."""
        vectors = self.images[np.maximum(found, 0).reshape(-1)].astype(np.float32).reshape(*found.shape, -1)
        scores = np.matmul(vectors, self.queries[:, :, None])[..., 0]
        return hits(np.where(found >= 0, scores, -np.inf).astype(np.float32), self.exact[0]) / K


def exact_results(
    images: NDArray[np.float16], queries: NDArray[np.float32], threads: int, k: int = K
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    faiss.omp_set_num_threads(threads)
    return exact_top_k(queries, ((start, images[start : start + 16_384]) for start in range(0, len(images), 16_384)), k)


@dataclass
class Result:
    """What one library did; ``failed`` says why it did nothing."""

    name: str
    failed: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    serving: dict[str, Any] = field(default_factory=dict)
    recall: float = 0
    error: float = 0
    thorough: float | None = None
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {"batch": [], "single": []})


def interpreter(name: str, environments: Path) -> Path:
    """The Python that has this library; makes its environment where there is none."""
    if name in OURS:
        return Path(sys.executable)
    kind = name.partition("-")[0]
    environment = environments / (kind if kind in PACKAGES else "peers")
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, capture_output=True)
        packages = PACKAGES[environment.name]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True, capture_output=True)
    return python


def worker(name: str, action: str, folder: Path, environments: Path) -> list[str]:
    """The command of one library's process."""
    program = ["-m", "benchmarks.index_peers"] if name in OURS else [str(_WORKER.resolve())]
    return [str(interpreter(name, environments)), *program, name, action, str(folder)]


def build_one(name: str, trial: Trial, environments: Path, threads: int, limit: float | None) -> Result:
    """Runs one build in its process. What FAISS and others warn of is kept in a file of the trial's folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    try:
        with open(trial.folder / f"{name}-build.log", "w") as log:
            command = worker(name, "build", trial.folder, environments)
            run = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, timeout=limit)
    except subprocess.TimeoutExpired:
        return Result(name, failed=f"not built within {limit:.0f} s")
    except subprocess.CalledProcessError as error:
        return Result(name, failed=f"not installed: {(error.stderr or b'').decode().strip()[-200:]}")
    if run.returncode:
        log_text = (trial.folder / f"{name}-build.log").read_text().strip()
        return Result(name, failed=f"failed: {log_text.splitlines()[-1][:200] if log_text else run.returncode}")
    return Result(name, about=json.loads(run.stdout.strip().splitlines()[-1]))


def time_all(results: list[Result], trial: Trial, environments: Path, rounds: int) -> None:
    """Opens every index in a process of its own and lets them answer in turns."""
    environment = {**os.environ, **_ONE_THREAD}
    with ExitStack() as stack:
        serving = {}
        for result in results:
            if result.name == FASTER:
                other = next(found.recall for found in results if found.name == "autofaiss")
                settings = json.loads((trial.folder / "settings.json").read_text())
                (trial.folder / "settings.json").write_text(json.dumps(settings | {"recall_to_reach": other}))
            log = stack.enter_context(open(trial.folder / f"{result.name}-serve.log", "w"))
            process = stack.enter_context(
                subprocess.Popen(
                    worker(result.name, "serve", trial.folder, environments),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=environment,
                )
            )
            line = _answer(process)
            if line is None:
                result.failed = f"search failed: {Path(log.name).read_text().strip()[-200:]}"
                continue
            result.serving = line
            serving[result.name] = process
            each = trial.recalls(np.load(trial.folder / f"{result.name}-found.npy"))
            result.recall, result.error = float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))
            thorough = trial.folder / f"{result.name}-thorough.npy"
            if thorough.exists():
                result.thorough = float(trial.recalls(np.load(thorough)).mean())
        for _ in range(rounds):
            for result in results:
                for way in ("batch", "single") if result.name in serving else ():
                    process = serving[result.name]
                    process.stdin.write(way + "\n")
                    process.stdin.flush()
                    result.milliseconds[way].append(_answer(process)["milliseconds"])
        for process in serving.values():
            process.stdin.close()


def _answer(process: "subprocess.Popen[str]") -> dict[str, Any] | None:
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    return None


def compare(arguments: argparse.Namespace, folder: Path) -> str:
    """The table of one side-by-side run."""
    trial = Trial.make(folder, arguments.rows, arguments.queries, arguments.seed, arguments.threads)
    tuning = draw_queries(_build(trial, arguments.target_recall, arguments.seed).gallery, TUNING, arguments.seed).tuning
    np.save(folder / "images.npy", trial.images)
    np.save(folder / "tuning.npy", tuning)
    np.save(folder / "truth.npy", exact_results(trial.images, tuning, arguments.threads)[1])
    np.save(folder / "queries.npy", trial.queries)
    settings = {
        "threads": arguments.threads,
        "k": K,
        "target_recall": arguments.target_recall,
        "memory": BYTES_A_VECTOR * arguments.rows,
        "seed": arguments.seed,
    }
    results: list[Result] = []
    for name in ["clipmill", *filter(None, arguments.peers.split(","))]:
        (folder / "settings.json").write_text(json.dumps(settings))
        result = build_one(name, trial, arguments.environments, arguments.threads, arguments.limit)
        results.append(result)
        print(
            f"{name}, load {os.getloadavg()[0]:.1f}: {result.failed or json.dumps(result.about)}",
            file=sys.stderr,
            flush=True,
        )
        if name == "clipmill":
            if result.failed:
                raise RuntimeError(result.failed)
            settings["memory"] = result.about["index"]
    if any(result.name == "autofaiss" and not result.failed for result in results):
        results.append(Result(FASTER, about=results[0].about))
    load = os.getloadavg()[0]
    time_all([result for result in results if not result.failed], trial, arguments.environments, arguments.rounds)
    return comparison_table(results, arguments, load)


def _build(trial: Trial, target: float, seed: int) -> Build:
    return make_build(
        IndexSettings(
            embeddings=str(trial.folder / "embeddings"),
            output=str(trial.folder / "clipmill"),
            memory=BYTES_A_VECTOR * len(trial.images),
            target_recall=target,
            tuning_queries=TUNING,
            k=K,
            seed=seed,
        )
    )


def machine() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return f"{found[1] if found else platform.processor()}, {os.cpu_count()} cores, {date.today()}"


def comparison_table(results: list[Result], arguments: argparse.Namespace, load: float) -> str:
    lines = [
        f"{arguments.rows:,} generated image vectors of 512 dimensions, {arguments.queries} unseen text queries, "
        f"target recall {arguments.target_recall}, built with {arguments.threads} threads, searched with one. {machine()}; "
        f"load before the timings {load:.1f}.",
        "",
        "| library | index | build s (of CPU) | index B/vector | private + mapped B/vector while searching | disk B/vector "
        "| 10-recall@10 (standard error) | ms per query, batch | ms per query, one at a time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        if result.failed:
            lines.append(f"| {result.name} | {result.failed} |" + " |" * 7)
            continue
        about, rows = result.about, arguments.rows
        parts = [result.serving["resident"][part] / rows for part in ("RssAnon", "RssFile")]
        setting = result.serving["setting"]
        if result.name == FASTER:
            described = f"the same, nprobe {setting[0]}, re-rank {setting[1]}: to the recall of autofaiss"
        else:
            described = _described(about["described"], setting)
        times = [_median_and_range(result.milliseconds[way]) for way in ("batch", "single")]
        lines.append(
            f"| {result.name} | {described} | {about['seconds']:.0f} ({about['cpu_seconds']:.0f}) "
            f"| {about['index'] / rows:.1f} | {parts[0]:.0f} + {parts[1]:.0f} | {about['disk'] / rows:.0f} "
            f"| {result.recall:.4f} ({result.error:.4f}) | {times[0]} | {times[1]} |"
        )
    lines += [
        "",
        f"Times are medians of {arguments.rounds} rounds, in brackets the least and the most.",
    ]
    for result in results:
        if result.thorough is not None:
            lines.append(f"{result.name} has a recall of {result.thorough:.4f} when it searches every list.")
        if "stage_seconds" in result.about and result.name != FASTER:
            seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result.about["stage_seconds"].items())
            lines.append(f"{result.name}'s build: {seconds}.")
    return "\n".join(lines)


def _described(described: str, setting: Any) -> str:
    return described if setting is None else f"{described}, search setting {setting}"


def _median_and_range(times: list[float]) -> str:
    return f"{statistics.median(times):.3f} [{min(times):.3f}, {max(times):.3f}]"


def seed_rows(folder: Path, arguments: argparse.Namespace, seed: int) -> list[tuple[float, str, NDArray[np.float64]]]:
    """For each target its row of the table and the recall of each unseen query.

    The index is built for the first target. Others share all but the choice of the operating point, which is made anew
    from the same queries.
    """
    trial = Trial.make(folder, arguments.rows, arguments.queries, seed, arguments.threads)
    began = time.perf_counter()
    build = _build(trial, TARGETS[0], seed)
    manifest = run_here(build, arguments.threads)
    seconds = time.perf_counter() - began
    queries = draw_queries(build.gallery, TUNING, seed)
    truth = exact_results(trial.images, queries.all, arguments.threads)
    index = open_index(build.output.uri)
    rows = []
    for target in TARGETS:
        point, met = manifest.operating_point, manifest.target_met
        if target != TARGETS[0]:
            assert _build(trial, target, seed).plan.chosen == build.plan.chosen
            operation = tune_all(index.sharded, [queries], truth, [K], target, exact=build.plan.exact)[0][2]
            point, met = operation.point, operation.met
        faiss.omp_set_num_threads(1)
        began = time.perf_counter()
        found = index.search(trial.queries, K, nprobe=point.nprobe, rerank=point.rerank)[1]
        milliseconds = 1000 * (time.perf_counter() - began) / len(trial.queries)
        each = trial.recalls(index.rows_at(found))
        mean, error = each.mean(), each.std(ddof=1) / np.sqrt(len(each))
        text = (
            f"| {target:.2f} | {seed} | {point.nprobe} × {point.rerank} | {'yes' if met else 'no'} "
            f"| {point.recall.value:.4f} | {mean:.4f} | {error:.4f} | {'yes' if mean >= target else 'no'} "
            f"| {'kept' if mean + ONE_SIDED * error >= target else 'broken'} | {milliseconds:.3f} "
            f"| {manifest.bytes_per_vector:.1f} | {seconds:.0f} |"
        )
        print(text, file=sys.stderr, flush=True)
        rows.append((target, text, each))
    return rows


def judge_seeds(arguments: argparse.Namespace, folder: Path) -> str:
    """The table of clipmill alone over seeds of vectors, queries and training."""
    rows = []
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            rows += seed_rows(Path(place), arguments, seed)
    lines = [
        f"{arguments.rows:,} generated image vectors, {arguments.queries} unseen text queries per seed. {machine()}.",
        "",
        "| target | seed | nprobe × re-rank | met in tuning | recall in tuning | unseen recall | standard error "
        "| mean ≥ target | 99.9% bound | ms per query, one thread | index B/vector | build s (first target) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(text for _, text, _ in sorted(rows, key=lambda row: row[0])),
        "",
    ]
    for target in TARGETS:
        each = np.concatenate([recalls for found, _, recalls in rows if found == target])
        upper = each.mean() + ONE_SIDED * each.std(ddof=1) / np.sqrt(len(each))
        verdict = "kept" if upper >= target else "broken"
        lines.append(
            f"Target {target:.2f}, all seeds: mean {each.mean():.4f}, mean + 3.09 standard errors {upper:.4f}: "
            f"{verdict}."
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--peers", default="", help="of scann, scann-fine, autofaiss, hnswlib, usearch and lancedb")
    parser.add_argument("--target-recall", type=float, default=0.95)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="of every build")
    parser.add_argument("--limit", type=float, help="seconds that one build may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=0, help="clipmill alone, at several targets, for so many seeds")
    parser.add_argument("--environments", type=Path, default=Path("out/venvs"), help="where peers are installed")
    parser.add_argument("--output", type=Path, help="a file for the table, which is printed as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = judge_seeds if arguments.seeds else compare
        table = run(arguments, Path(scratch))
    print(table)
    if arguments.output:
        arguments.output.write_text(table + "\n")


if __name__ == "__main__":
    main()
