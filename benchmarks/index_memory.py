"""Peak memory of training an index and of filling a shard, above that of an idle process, beside what they must hold.

Random vectors, many times larger than the bound of 1.5 × (index + training sample as float32). Each step runs in a process
of its own, as a Ray worker would; what is counted is its peak resident set above the one it had before the step.

    python -m benchmarks.index_memory --rows 3200000 --factory IVF1024,PQ32x4fsr
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.index import machine
from clipmill.core.settings import IndexSettings
from clipmill.index.build import steps
from clipmill.index.build.build import Build, make_build
from clipmill.index.build.unfinished import Trained, Unfinished, read_record
from tests.clustered import write_embeddings

DIMENSION = 512
_BLOCK = 65_536


def settings(folder: Path, factory: str) -> IndexSettings:
    return IndexSettings(embeddings=str(folder / "embeddings"), output=str(folder / "index"), factory=factory, shards=1)


def resident(what: str) -> int:
    """Bytes of this process: ``VmRSS`` now, or ``VmHWM`` at most."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return 1024 * int(found[1])


def one_step(build: Build, step: str) -> dict[str, int]:
    """Runs a step; bytes that it had before, and at most."""
    import faiss

    faiss.omp_set_num_threads(2)
    steps.draw(build)
    idle = resident("VmRSS")
    if step == "train":
        steps.train(build)
    else:
        trained = read_record(Unfinished(build).trained, Trained)
        assert trained is not None
        for place in build.places:
            steps.fill(build, place, steps.trained_bytes(build, trained), trained)
    return {"idle": idle, "peak": resident("VmHWM")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_200_000)
    parser.add_argument("--factory", default="IVF1024,PQ32x4fsr")
    parser.add_argument("--step", choices=["train", "fill"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(one_step(make_build(settings(arguments.folder, arguments.factory)), arguments.step)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        random = np.random.default_rng(0)
        images = np.empty((arguments.rows, DIMENSION), np.float16)
        for start in range(0, len(images), _BLOCK):
            block = random.standard_normal((min(_BLOCK, len(images) - start), DIMENSION), np.float32)
            images[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
        write_embeddings(folder / "embeddings", images, images[:1], files=32, row_group_size=8192)
        build = make_build(settings(folder, arguments.factory))
        build.staging.open()
        peaks = {}
        for step in ("train", "fill"):
            command = [sys.executable, "-m", "benchmarks.index_memory", "--folder", scratch, "--step", step]
            run = subprocess.run(
                [*command, "--factory", arguments.factory], stdout=subprocess.PIPE, check=True, text=True
            )
            peaks[step] = json.loads(run.stdout.strip().splitlines()[-1])
        size = (Path(Unfinished(build).dataset.path) / build.places[0].file("index")).stat().st_size
        sample = build.plan.training_rows * DIMENSION * 4
        bound = 1.5 * (size + sample)
        print(f"{arguments.rows:,} × {DIMENSION}, {arguments.factory}. {machine()}")
        print(f"embeddings {images.nbytes / 1e6:.0f} MB, {images.nbytes / bound:.1f} × the bound")
        print(f"index {size / 1e6:.0f} MB, training sample {sample / 1e6:.0f} MB, bound {bound / 1e6:.0f} MB")
        for step, found in peaks.items():
            above = found["peak"] - found["idle"]
            print(
                f"{step}: {above / 1e6:.0f} MB above {found['idle'] / 1e6:.0f} MB idle, {above / bound:.2f} of the bound"
            )


if __name__ == "__main__":
    main()
