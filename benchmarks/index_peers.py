"""One index library behind one protocol, so that each runs in a process, and where it must an environment, of its own.

    python index_peers.py NAME build FOLDER    # builds from FOLDER/images.npy, prints one line of JSON
    python index_peers.py NAME serve FOLDER    # opens it, answers each line of input ("batch" or "single") with JSON

FOLDER holds ``images.npy`` (n, d) float16, ``tuning.npy`` and ``queries.npy`` (q, d) float32, ``truth.npy`` (q, k) with
the exact results of the tuning queries, and ``settings.json``. Only the peer's own environment and numpy are imported.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SINGLE_QUERIES = 200
"""Queries asked one at a time in a round."""
DEEPEST_SETTINGS = 1024


class Peer(Protocol):
    """A library's index in ``folder``. ``settings`` holds threads, k, target_recall, memory and seed."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None: ...

    def build(self, images: NDArray[np.float16]) -> dict[str, Any]:
        """Builds and saves it; what it says of itself, with the bytes of the ``index``."""

    def open(self) -> None:
        """Opens what was built."""

    def set(self, setting: Any) -> None:
        """Takes one of ``ladder``."""

    def ladder(self) -> Iterable[Any]:
        """Search settings from fast to thorough, of which the first to reach the target is taken; none: it tunes itself."""

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """The rows (q, k) found, with one thread."""


class Clipmill:
    """This project: planned, trained, filled and tuned as `clipmill index` does, in this process."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings

    def build(self, images: NDArray[np.float16]) -> dict[str, Any]:
        from clipmill.core.settings import IndexSettings
        from clipmill.index.build.build import make_build
        from tests.indexing import run_here

        settings = self.settings
        build = make_build(
            IndexSettings(
                embeddings=str(self.folder / "embeddings"),
                output=str(self.folder / "clipmill"),
                memory=settings["memory"],
                target_recall=settings["target_recall"],
                k=settings["k"],
                seed=settings["seed"],
            )
        )
        manifest = run_here(build, settings["threads"])
        point = manifest.operating_point
        return {
            "index": manifest.memory["total"],
            "disk": folder_bytes(self.folder / "clipmill"),
            "described": f"{manifest.factory}, nprobe {point.nprobe}, re-rank {point.rerank}",
            "stage_seconds": manifest.stage_seconds,
            "target_met": manifest.target_met,
        }

    def open(self) -> None:
        from clipmill.index.search.open import open_index

        self.opened = open_index(str(self.folder / "clipmill"))

    def ladder(self) -> Iterable[Any]:
        return ()

    def set(self, setting: Any) -> None:
        raise NotImplementedError

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        return self.opened.rows_at(self.opened.search(queries, self.settings["k"])[1])


class ClipmillFaster(Clipmill):
    """The same index with search settings of no more recall than another library has."""

    setting: tuple[int, int]

    def ladder(self) -> Iterable[Any]:
        k = self.settings["k"]
        return [(probes, depth * k) for probes in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48) for depth in (1, 2, 4, 8)]

    def set(self, setting: Any) -> None:
        self.setting = setting

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        nprobe, rerank = self.setting
        return self.opened.rows_at(self.opened.search(queries, self.settings["k"], nprobe=nprobe, rerank=rerank)[1])


class Autofaiss:
    """autofaiss, given the memory of the index of this project; it takes its search settings from its own tuning."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings, self.file, self.about = settings, folder / "autofaiss.index", folder / "autofaiss.json"

    def build(self, images: NDArray[np.float16]) -> dict[str, Any]:
        from autofaiss import build_index

        build_index(
            images.astype(np.float32),
            index_path=str(self.file),
            index_infos_path=str(self.about),
            max_index_memory_usage=f"{self.settings['memory']}B",
            current_memory_available="12G",
            metric_type="ip",
            nb_cores=self.settings["threads"],
        )
        about = json.loads(self.about.read_text())
        described = f"{about['index_key']}, {about['index_param']}"
        return {"index": self.file.stat().st_size, "disk": self.file.stat().st_size, "described": described}

    def open(self) -> None:
        import faiss

        self.index = faiss.read_index(str(self.file))
        about = json.loads(self.about.read_text())
        faiss.ParameterSpace().set_index_parameters(self.index, about["index_param"])

    def ladder(self) -> Iterable[Any]:
        return ()

    def set(self, setting: Any) -> None:
        import faiss

        faiss.ParameterSpace().set_index_parameters(self.index, setting)

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        return self.index.search(queries, self.settings["k"])[1]

    def most_thorough(self) -> str:
        """Search settings that leave out nothing: what remains wrong is the codes' fault."""
        about = json.loads(self.about.read_text())
        lists = re.search(r"IVF(\d+)", about["index_key"])
        given = f"nprobe={lists[1]}" if lists else ""
        return f"{given},quantizer_efSearch={lists[1]}" if lists and "HNSW" in about["index_key"] else given


class Hnswlib:
    """hnswlib with 16 links and a construction depth of 200, over float32 vectors in memory."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings, self.file = settings, folder / "hnswlib.index"

    def build(self, images: NDArray[np.float16]) -> dict[str, Any]:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=images.shape[1])
        index.init_index(max_elements=len(images), M=16, ef_construction=200, random_seed=self.settings["seed"])
        for start in range(0, len(images), 16_384):
            block = images[start : start + 16_384].astype(np.float32)
            index.add_items(block, np.arange(start, start + len(block)), num_threads=self.settings["threads"])
        index.save_index(str(self.file))
        return {"index": self.file.stat().st_size, "disk": self.file.stat().st_size, "described": "M 16, float32"}

    def open(self) -> None:
        import hnswlib

        d = np.load(self.file.parent / "queries.npy", mmap_mode="r").shape[1]
        self.index = hnswlib.Index(space="ip", dim=d)
        self.index.load_index(str(self.file))

    def ladder(self) -> Iterable[Any]:
        return steps(self.settings["k"])

    def set(self, setting: Any) -> None:
        self.index.set_ef(setting)

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        return self.index.knn_query(queries, k=self.settings["k"], num_threads=1)[0].astype(np.int64)


class Usearch:
    """usearch with its own defaults of links and construction depth, over float16 vectors in memory."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings, self.file = settings, folder / "usearch.index"

    def build(self, images: NDArray[np.float16]) -> dict[str, Any]:
        from usearch.index import Index

        index = Index(ndim=images.shape[1], metric="ip", dtype="f16")
        for start in range(0, len(images), 16_384):
            block = images[start : start + 16_384]
            index.add(np.arange(start, start + len(block)), block, threads=self.settings["threads"])
        index.save(str(self.file))
        described = f"M {index.connectivity}, float16"
        return {"index": self.file.stat().st_size, "disk": self.file.stat().st_size, "described": described}

    def open(self) -> None:
        from usearch.index import Index

        self.index = Index.restore(str(self.file))

    def ladder(self) -> Iterable[Any]:
        return steps(self.settings["k"])

    def set(self, setting: Any) -> None:
        self.index.expansion_search = setting

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        found = self.index.search(queries, self.settings["k"], threads=1)
        return np.asarray(found.keys).astype(np.int64).reshape(len(queries), -1)


class Lancedb:
    """lancedb with IVF_PQ of 64 bytes per vector, re-ranked from the float32 vectors on disk."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings, self.folder = settings, folder / "lancedb"

    def build(self, images: NDArray[np.float16]) -> dict[str, Any]:
        import lancedb
        import pyarrow as pa

        schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), images.shape[1]))])

        def batches() -> Iterable[pa.RecordBatch]:
            for start in range(0, len(images), 16_384):
                block = images[start : start + 16_384].astype(np.float32)
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), images.shape[1])
                yield pa.RecordBatch.from_arrays(
                    [pa.array(np.arange(start, start + len(block))), vectors], schema=schema
                )

        table = lancedb.connect(str(self.folder)).create_table("images", batches(), schema=schema)
        lists = 1 << round(np.log2(np.sqrt(len(images))))
        table.create_index(metric="dot", num_partitions=lists, num_sub_vectors=64)
        files = folder_bytes(self.folder / "images.lance" / "_indices")
        return {"index": files, "disk": folder_bytes(self.folder), "described": f"IVF_PQ, {lists} lists, 64 bytes"}

    def open(self) -> None:
        import lancedb

        self.table = lancedb.connect(str(self.folder)).open_table("images")

    def ladder(self) -> Iterable[Any]:
        return [(probes, refine) for probes in (8, 16, 32, 64, 128) for refine in (4, 16)]

    def set(self, setting: Any) -> None:
        self.probes, self.refine = setting

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        k = self.settings["k"]
        rows = np.full((len(queries), k), -1, np.int64)
        for number, query in enumerate(queries):
            asked = self.table.search(query).distance_type("dot").nprobes(self.probes).refine_factor(self.refine)
            found = asked.limit(k).select(["row", "_distance"]).to_arrow().column("row").to_numpy()
            rows[number, : len(found)] = found
        return rows


class Scann:
    """ScaNN: leaves searched by 4-bit codes with anisotropic loss, re-ranked from vectors of bfloat16 in memory."""

    def __init__(self, folder: Path, settings: dict[str, Any], dimensions_per_block: int = 4) -> None:
        self.settings, self.block = settings, dimensions_per_block
        self.place = folder / f"scann-{dimensions_per_block}"

    def build(self, images: NDArray[np.float16]) -> dict[str, Any]:
        from scann.scann_ops.py import scann_builder, scann_ops_pybind

        leaves = 1 << round(np.log2(2 * np.sqrt(len(images))))
        builder = scann_ops_pybind.builder(images.astype(np.float32), self.settings["k"], "dot_product")
        builder = builder.tree(
            num_leaves=leaves, num_leaves_to_search=32, training_sample_size=min(len(images), 250_000)
        )
        builder = builder.score_ah(self.block, anisotropic_quantization_threshold=0.2)
        builder = builder.reorder(200, quantize=scann_builder.ReorderType.BFLOAT16)
        searcher = builder.set_n_training_threads(self.settings["threads"]).build()
        self.place.mkdir()
        searcher.serialize(str(self.place), relative_path=True)
        size = folder_bytes(self.place)
        return {"index": size, "disk": size, "described": f"{leaves} leaves, {self.block} dimensions a block"}

    def open(self) -> None:
        from scann.scann_ops.py import scann_ops_pybind

        self.searcher = scann_ops_pybind.load_searcher(str(self.place))

    def ladder(self) -> Iterable[Any]:
        leaves = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
        return [(searched, reordered) for searched in leaves for reordered in (30, 50, 80, 120, 200, 400)]

    def set(self, setting: Any) -> None:
        self.searched, self.reordered = setting

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        k, told = self.settings["k"], {"pre_reorder_num_neighbors": self.reordered, "leaves_to_search": self.searched}
        if len(queries) == 1:
            found = self.searcher.search(queries[0], final_num_neighbors=k, **told)[0][None]
        else:
            found = self.searcher.search_batched(queries, final_num_neighbors=k, **told)[0]
        return np.asarray(found).astype(np.int64)


class FineScann(Scann):
    """The same with codes of twice the bytes."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        super().__init__(folder, settings, dimensions_per_block=2)


PEERS: dict[str, Callable[[Path, dict[str, Any]], Peer]] = {
    "clipmill": Clipmill,
    "clipmill-faster": ClipmillFaster,
    "autofaiss": Autofaiss,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "lancedb": Lancedb,
    "scann": Scann,
    "scann-fine": FineScann,
}


def steps(k: int) -> list[int]:
    """Search depths from k up, each about a quarter more than the one before."""
    depths = [k]
    while depths[-1] < DEEPEST_SETTINGS:
        depths.append(max(depths[-1] + 1, depths[-1] * 5 // 4))
    return depths


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def resident() -> dict[str, int]:
    """Bytes of this process that are its own, and those of files that it maps."""
    status = Path("/proc/self/status").read_text()
    return {name: int(re.search(rf"^{name}:\s+(\d+)", status, re.M)[1]) * 1024 for name in ("RssAnon", "RssFile")}


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    return float((found[:, :, None] == truth[:, None, :]).any(axis=1).mean())


def tune(peer: Peer, folder: Path, target: float) -> Any:
    """The fastest search setting that reaches the target on the tuning queries; the last where none does. Of a ladder of one
    parameter it is the first that reaches it, and no other is tried."""
    queries, truth = np.load(folder / "tuning.npy")[:500], np.load(folder / "truth.npy")[:500]
    setting, reaching = None, {}
    for setting in peer.ladder():
        peer.set(setting)
        began = time.perf_counter()
        found = peer.search(queries)
        if recall(found, truth) >= target:
            reaching[setting] = time.perf_counter() - began
            if not isinstance(setting, tuple):
                break
    setting = min(reaching, key=lambda one: reaching[one]) if reaching else setting
    if setting is not None:
        peer.set(setting)
    return setting


def build(peer: Peer, folder: Path) -> None:
    images = np.load(folder / "images.npy", mmap_mode="r")
    began, busy = time.perf_counter(), time.process_time()
    about = peer.build(images)
    about |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - busy}
    print(json.dumps(about), flush=True)


def serve(name: str, peer: Peer, folder: Path, target: float) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if name in ("clipmill", "clipmill-faster", "autofaiss"):
        import faiss

        faiss.omp_set_num_threads(1)
    queries = np.load(folder / "queries.npy")
    before = resident()
    peer.open()
    setting = tune(peer, folder, target)
    if isinstance(peer, Autofaiss):
        np.save(folder / f"{name}-thorough.npy", found_thoroughly(peer, queries))
        peer.open()
    np.save(folder / f"{name}-found.npy", peer.search(queries))
    used = {part: size - before[part] for part, size in resident().items()}
    print(json.dumps({"setting": setting, "resident": used}), flush=True)
    for line in sys.stdin:
        asked = queries if line.strip() == "batch" else queries[:SINGLE_QUERIES]
        began = time.perf_counter()
        if line.strip() == "batch":
            peer.search(asked)
        else:
            for number in range(len(asked)):
                peer.search(asked[number : number + 1])
        print(json.dumps({"milliseconds": 1000 * (time.perf_counter() - began) / len(asked)}), flush=True)


def found_thoroughly(peer: Autofaiss, queries: NDArray[np.float32]) -> NDArray[np.int64]:
    peer.set(peer.most_thorough())
    return peer.search(queries)


def main() -> None:
    name, action, place = sys.argv[1:]
    folder = Path(place)
    settings = json.loads((folder / "settings.json").read_text())
    peer = PEERS[name](folder, settings)
    if action == "build":
        build(peer, folder)
    else:
        serve(name, peer, folder, settings.get("recall_to_reach", settings["target_recall"]))


if __name__ == "__main__":
    main()
