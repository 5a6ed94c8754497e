"""The parts of `benchmarks.gpu`: each a function of the bench to figures by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import safetensors.torch
import torch

from benchmarks.encoder_feed import decoded_units, feed
from benchmarks.jpegs import jpeg, write_jpegs
from clipmill.core.gpus import FAKE_GPUS, peak_flops
from clipmill.core.settings import ModelSettings
from clipmill.curate.near import Tile, near_pairs, rotation_of
from clipmill.encoders.adapters.open_clip import OpenClip
from clipmill.encoders.model import ClipModel, identify, preprocessing_of
from clipmill.encoders.source import find_model, quiet
from clipmill.estimate.models import cost_of_model
from clipmill.index.build.coarse import cluster
from clipmill.index.search.exact import TopK, exact_top_k
from clipmill.source.decode import decode_image
from clipmill.source.decode_many import decode_all, jpeg_decoder

Found = dict[str, Any]
MODELS = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14")


@dataclass(frozen=True)
class Bench:
    """Where parts work and with what: ``folder`` for files, ``device`` cuda or cpu, ``smoke`` for tiny sizes, ``limit`` in
    seconds for one part."""

    folder: Path
    device: str
    smoke: bool
    limit: float

    @property
    def models(self) -> tuple[str, ...]:
        """Architectures to try."""
        return ("builtin",) if self.smoke else MODELS

    def sized(self, full: int, smoke: int) -> int:
        """A size for this bench."""
        return smoke if self.smoke else full

    @property
    def peak(self) -> float | None:
        """Operations a second of the GPU in 16 bits, by its data sheet."""
        return None if self.device == "cpu" else peak_flops(torch.cuda.get_device_name())


def untrained(name: str, device: str, precision: str | None = None) -> ClipModel:
    """A model with random weights, made on the device, where that takes no time."""
    source = find_model(ModelSettings(model=name), trained=name == "builtin")
    torch.manual_seed(0)
    with torch.device(device), quiet():
        folder = f"local-dir:{source.folder}" if source.folder else source.name
        network = open_clip.create_model(folder, load_weights=False, pretrained_text=False, device=device)
    network.eval().requires_grad_(False).float()
    preprocessing = preprocessing_of(network, source)
    identity = identify(network.to("cpu"), source, preprocessing)
    chosen = precision or ("bf16" if device == "cuda" else "fp32")
    return ClipModel(network.to(device), OpenClip(source, preprocessing), identity, torch.device(device), chosen, 256)


def facts(bench: Bench) -> Found:
    """What the machine is."""
    found: Found = {"torch": torch.__version__, "cores": len(os.sched_getaffinity(0)), "python": sys.version.split()[0]}
    if bench.device == "cuda":
        asked = "name,driver_version,memory.total,clocks.max.sm,power.limit"
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"], capture_output=True, text=True
        )
        found |= {"smi": told.stdout.strip(), "gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        found |= {"driver": told.stdout.split(",")[1].strip() if "," in told.stdout else "unknown"}
    return found


def bare(bench: Bench) -> Found:
    """Encoders alone, on pictures that are on the device: images a second by batch, the best, and what share of the peak
    that is."""
    found: Found = {}
    for name in bench.models:
        model = untrained(name, bench.device)
        rates = {
            size: _bare_rate(model, size, bench.sized(8, 2))
            for size in ((64, 128, 256, 512, 1024) if not bench.smoke else (2, 4))
        }
        best = max(rates, key=lambda size: rates[size])
        found[name] = {"images/s": rates[best], "batch": best, **{f"at {size}": rate for size, rate in rates.items()}}
        cost = cost_of_model(name)
        if cost.image_gflops and bench.peak:
            found[name]["share of peak"] = rates[best] * cost.image_gflops * 1e9 / bench.peak
        del model
        _forget()
    return found


def _bare_rate(model: ClipModel, size: int, rounds: int) -> float:
    pixels = torch.zeros((size, 3, *model.preprocessing.size), dtype=torch.uint8, device=model.device)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(rounds):
                batch = model.preprocessing.normalise(pixels).to(model._type)
                model.towers.encode_image(batch, normalize=False)  # type: ignore[operator]

    try:
        work()
        return rounds * size / _seconds(work, model.device)
    except torch.OutOfMemoryError:
        return 0.0


def units(bench: Bench) -> Found:
    """Units from memory through the encoder of an actor: share of the time in which the device computes."""
    found: Found = {}
    for name in bench.models[:1] + bench.models[2:3]:
        model = untrained(name, bench.device)
        if bench.device == "cuda":
            model.find_batch_size()
        ready = decoded_units(model.preprocessing.size, bench.sized(60, 3), 16 if bench.smoke else None)
        feed(model, iter(ready[:2]))
        for threads in (1, 2, 3):
            fed = feed(model, iter(ready), threads)
            busy = f"{threads} units at once"
            found.setdefault(name, {})[busy] = {"images/s": fed.images / fed.seconds, "busy": fed.busy}
        found[name]["batch"] = model.batches.size
        del model
        _forget()
    return found


def parity(bench: Bench) -> Found:
    """Vectors of the device beside float32 on the CPU."""
    name = bench.models[0]
    slow = untrained(name, "cpu")
    fast = replace(
        slow, network=_copied(slow.network, bench.device), device=torch.device(bench.device), precision="bf16"
    )
    pictures = [decode_image(jpeg(seed), 10**9) for seed in range(bench.sized(64, 4))]
    pixels = torch.stack([slow.preprocessing.prepare(picture) for picture in pictures])
    texts = [f"picture {number} of {'very ' * (number % 40)}many" for number in range(bench.sized(320, 8))]
    images = [model.encode_images(pixels) for model in (slow, fast)]
    captions = [model.encode_texts(texts) for model in (slow, fast)]
    top = [np.argsort(-(c @ i.T), axis=1)[:, :10] for c, i in zip(captions, images, strict=True)]
    shared = np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(*top, strict=True)])
    least = [float((a * b).sum(axis=1).min()) for a, b in (images, captions)]
    return {"least cosine of images": least[0], "least cosine of captions": least[1], "top 10 in common": float(shared)}


def _copied(network: torch.nn.Module, device: str) -> torch.nn.Module:
    import copy

    return copy.deepcopy(network).to(device)


def captions(bench: Bench) -> Found:
    """Captions a second: tokenised, and encoded from token ids."""
    from clipmill.encoders.tokens import tokenise

    model = untrained(bench.models[0], bench.device)
    count = bench.sized(40_000, 40)
    texts = [f"picture number {number} shows {number % 7} dogs on a beach near the sea" for number in range(count)]
    began = time.perf_counter()
    ids = tokenise(model.tokenizer, texts)
    tokenising = time.perf_counter() - began
    model.encode_tokens(ids[: count // 4])
    seconds = _seconds(lambda: model.encode_tokens(ids), model.device)
    return {"tokenised/s by one core": count / tokenising, "encoded/s": count / seconds}


def decoding(bench: Bench) -> Found:
    """JPEGs decoded and prepared: a second and core, on all cores, and by the GPU."""
    model = untrained(bench.models[0], "cpu")
    data = [jpeg(seed) for seed in range(bench.sized(64, 4))] * bench.sized(20, 1)
    torch.set_num_threads(1)

    def prepare(encoded: bytes) -> torch.Tensor:
        return model.preprocessing.prepare(decode_image(encoded, 10**9))

    few = data[: len(data) // 8 or 1]
    one = len(few) / _seconds(lambda: [prepare(encoded) for encoded in few], model.device)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        seconds = _seconds(lambda: list(pool.map(prepare, data)), model.device)
    found: Found = {"images/s of a core": one, "images/s of threads on all cores": len(data) / seconds}
    if bench.device == "cpu":
        os.environ[FAKE_GPUS] = "1"  # of this process alone: the code is tried, by the decoder of the CPU
    return found | _decoding_on_gpu(data, model, torch.device(bench.device))


def _decoding_on_gpu(data: list[bytes], model: ClipModel, device: torch.device) -> Found:
    jpegs = jpeg_decoder()

    def work() -> None:
        for _, picture in decode_all(data, 10**9, jpegs):
            assert isinstance(picture, torch.Tensor)
            model.preprocessing.prepare(picture)

    work()
    by = "the GPU" if device.type == "cuda" else "the CPU in the GPU's place"
    found = {f"images/s of {by}": len(data) / _seconds(work, device)}
    here = jpegs(data[:1])[0].cpu().int()
    found["largest difference of a pixel"] = float((here - decode_image(data[0], 10**9).int()).abs().max())
    return found


def pipeline(bench: Bench, name: str, rows: int, options: tuple[str, ...] = ()) -> Found:
    """The whole command from JPEGs in Parquet, on Ray."""
    source = bench.folder / f"in-{rows}.parquet"
    if not source.exists():
        write_jpegs(source, rows)
    model = _saved(bench, name)
    output = bench.folder / f"out-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "clipmill_jobs", "embed", "--input", str(source), "--output", str(output)]
    command += ["--address", "local", *(["--pretrained", f"local-dir:{model}"] if model else []), *options]
    began = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True)
    wall = time.perf_counter() - began
    if run.returncode:
        raise RuntimeError(f"embed ended with {run.returncode}: {run.stderr[-1500:]}")
    manifest = json.loads((output / "manifest.json").read_text())
    shutil.rmtree(output)
    told = manifest["runs"][-1]
    seconds = manifest["throughput"]["stage_seconds"]
    computed = seconds["encode_images"] + seconds.get("encode_captions", 0.0)
    encoders = manifest["hardware"]["encoders"]
    steady = computed / told["encoder_busy"] / encoders if told["encoder_busy"] else 0.0
    return {
        "images/s of the command": rows / wall,
        "images/s from first to last unit": rows / steady if steady else 0.0,
        "GPU busy": told["encoder_busy"],
        "limited by": told["limited_by"],
        "encoders": encoders,
        "with": " ".join(manifest["encoded_with"]),
        "parity": manifest["parity"],
    }


def _saved(bench: Bench, name: str) -> Path | None:
    """The model as open_clip's local folder; none for the built-in one."""
    if name == "builtin":
        return None
    folder = bench.folder / name
    if not folder.exists():
        folder.mkdir()
        model = untrained(name, bench.device)
        preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
        preprocess |= {"interpolation": "bicubic", "resize_mode": "shortest"}
        config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": preprocess}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        state = {key: value.contiguous().cpu().clone() for key, value in model.network.state_dict().items()}
        safetensors.torch.save_file(state, folder / "open_clip_model.safetensors")
    return folder


def pipeline_of(place: int, full_rows: int, *options: str) -> Callable[[Bench], Found]:
    """The whole command with one of the models."""

    def part(bench: Bench) -> Found:
        if place >= len(bench.models):
            return {"left out": "one model is enough to try the code"}
        name = bench.models[place]
        chosen = ("--cpus", "2", "--device", "cpu") if bench.device == "cpu" else ("--device", "gpu", *options)
        return {name: pipeline(bench, name, bench.sized(full_rows, 40), chosen)}

    return part


def memory(bench: Bench) -> Found:
    """A batch that does not fit is halved until it does."""
    model = replace(
        untrained(bench.models[min(2, len(bench.models) - 1)], bench.device), batch_size=bench.sized(1 << 17, 4)
    )
    if bench.device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(min(1.0, 12e9 / free))
    pixels = np.zeros((bench.sized(6000, 6), 3, *model.preprocessing.size), np.uint8)
    vectors = model.encode_images(pixels)
    return {"survived": bool(np.isfinite(vectors).all()), "batch at the end": model.batches.size}


def compiling(bench: Bench) -> Found:
    """torch.compile on and off, at the best batch."""
    found: Found = {}
    for name in bench.models[:1] + bench.models[2:3]:
        model = untrained(name, bench.device)
        size = bench.sized(256, 2)
        plain = _bare_rate(model, size, bench.sized(8, 2))
        if not bench.smoke:
            vars(model)["towers"] = model.towers
            model.towers.visual = torch.compile(model.towers.visual, mode="reduce-overhead")  # type: ignore[assignment]
            began = time.perf_counter()
            compiled = _bare_rate(model, size, 8)
            found[name] = {"off": plain, "on": compiled, "seconds to compile": time.perf_counter() - began}
        else:
            found[name] = {"off": plain}
        del model
        _forget()
    return found


def searching(bench: Bench) -> Found:
    """What ``--products gpu`` computes, on the device and on these cores: exact top 10, an iteration of coarse k-means,
    near-duplicates of two runs of vectors."""
    import faiss

    n, queries, d, centres = bench.sized(1_000_000, 2_000), bench.sized(2_000, 20), 512, bench.sized(4096, 16)
    random, device = np.random.default_rng(0), torch.device(bench.device)
    base = random.standard_normal((n, d), np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    asked = base[:queries] + 0.05 * random.standard_normal((queries, d), np.float32)
    stored = base.astype(np.float16)

    def top(where: torch.device | None) -> TopK:
        return exact_top_k(asked, ((at, stored[at : at + 65_536]) for at in range(0, n, 65_536)), 10, where)

    found, right = top(device)[1], top(None)[1]
    agree = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, right, strict=True)])
    cluster(base[: 2 * centres], base[:centres], 1, device, spherical=True)
    rounds = faiss.Kmeans(d, centres, niter=1, spherical=True, max_points_per_centroid=n // centres + 1, verbose=False)
    few, cores = base[: n // 8], torch.device("cpu")
    tiles = [Tile.of(at, stored[at : at + n // 32], rotation_of(stored[:2000])) for at in (0, n // 32)]
    return {
        "exact queries/s, device": queries / _seconds(lambda: top(device), device),
        "exact queries/s, FAISS on the cores": queries / _seconds(lambda: top(None), cores),
        "results in common": float(agree),
        "k-means step s, device": _seconds(lambda: cluster(base, base[:centres], 1, device, spherical=True), device),
        "k-means step s, FAISS on the cores (an eighth, times eight)": 8
        * _seconds(lambda: rounds.train(few, init_centroids=few[:centres]), cores),
        "near-duplicates of two runs s, device": _seconds(lambda: near_pairs(*tiles, 0.95, device), device),
        "near-duplicates of two runs s, cores": _seconds(lambda: near_pairs(*tiles, 0.95), cores),
    }


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    with _waited(device):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


@contextmanager
def _waited(device: torch.device) -> Iterator[None]:
    if device.type == "cuda":
        torch.cuda.synchronize()
    yield


def _forget() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


PARTS: dict[str, Callable[[Bench], Found]] = {
    "facts": facts,
    "bare": bare,
    "pipeline-B-32": pipeline_of(0, 60_000),
    "pipeline-L-14": pipeline_of(2, 30_000),
    "units": units,
    "parity": parity,
    "decoding": decoding,
    "captions": captions,
    "pipeline-B-32, two encoders a GPU": pipeline_of(0, 60_000, "--gpus-per-actor", "0.5"),
    "pipeline-B-32, decoded by the GPU": pipeline_of(0, 60_000, "--decode", "gpu"),
    "memory": memory,
    "compile": compiling,
    "search": searching,
    "pipeline-H-14": pipeline_of(3, 12_000),
    "pipeline-B-16": pipeline_of(1, 40_000),
}
"""In the order of their worth."""
