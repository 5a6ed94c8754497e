"""Every command line of the tutorials runs as printed, in order, in a folder with what the reader has.

What a test machine lacks is stood in for: the hub that weights come from, and kubectl, docker and openssl, whose files and
manifests are looked at instead. The pages that `explore` opens are asked once and ended.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from faulty_s3 import FaultyS3

ROOT = Path(__file__).parents[2]
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("tutorial_*.md")}
MODEL = re.compile(r" --model ViT-B-32(-quickgelu)? --pretrained \w+")
"""A model whose weights come from a hub: the built-in one does the same work here."""
STANDS_IN = f"""#!{sys.executable}
import pathlib, sys, yaml
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
if name == "openssl":
    print("0" * 64)
for word in words:
    for option, is_there in (("--from-file=", pathlib.Path.is_dir), ("weights=", pathlib.Path.is_dir)):
        if word.startswith(option):
            assert is_there(pathlib.Path(word.removeprefix(option))), word
for option, word in zip(words, words[1:]):
    if option != "-f" or word.startswith("-"):
        continue
    text = sys.stdin.read() if word == "-" else pathlib.Path(word).read_text()
    if name == "kubectl" and words[0] == "apply" and word != "-":
        for document in yaml.safe_load_all(text):
            assert document["kind"] and document["metadata"]["name"], word
"""


def commands(page: str) -> list[str]:
    """The lines of a page that are to be typed: those set in by four more than what is around them."""
    lines, found = page.splitlines(), []
    for number, line in enumerate(lines):
        inside = re.match(r" {8}(?=\S)| {4}(?=\S)(?=clipmill )", line)
        if inside and (not lines[number - 1].strip() or lines[number - 1].startswith("    ")):
            found.append(line.strip())
    return found


def write_pictures(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    made = []
    for number in range(8):
        made.append(folder / f"{number}.jpg")
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(made[-1])
    return made


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A checkout's infra/, photographs, and what clip-retrieval wrote; programs that stand in come first on the path."""
    shutil.copytree(ROOT / "infra", tmp_path / "infra")
    write_pictures(tmp_path / "photos")
    rng = np.random.default_rng(1)
    for part in ("img_emb", "text_emb"):
        (tmp_path / "embeddings" / part).mkdir(parents=True)
        vectors = rng.standard_normal((40, 512)).astype(np.float16)
        np.save(tmp_path / "embeddings" / part / f"{part}_0.npy", vectors)
    (tmp_path / "embeddings/metadata").mkdir()
    table = pa.table(
        {"image_path": [f"{row}.jpg" for row in range(40)], "caption": [f"row {row}" for row in range(40)]}
    )
    pq.write_table(table, tmp_path / "embeddings/metadata/metadata_0.parquet")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("kubectl", "docker", "openssl"):
        (programs / name).write_text(STANDS_IN)
        (programs / name).chmod(0o755)
    (programs / "clipmill").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clipmill_jobs "$@"\n')
    (programs / "clipmill").chmod(0o755)
    return tmp_path


@pytest.fixture
def store() -> Iterator[FaultyS3]:
    """A store with the buckets that the tutorials name, photographs in it, and two versions that nights have published."""
    with FaultyS3() as made:
        for bucket in ("photos", "vectors", "example-vectors"):
            made.client.create_bucket(Bucket=bucket)
        yield made


def run(line: str, workplace: Path, variables: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=workplace,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def look(line: str, workplace: Path, variables: dict[str, str]) -> None:
    """Opens the page of `explore`, asks it for its indices and ends it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*line.split(), "--no-browser", "--port", str(port)]
    with subprocess.Popen(
        words, cwd=workplace, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as page:
        try:
            for _ in range(600):
                assert page.poll() is None, f"{line}\n{page.stdout.read().decode()}"
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/indices", timeout=5) as answer:
                        assert answer.status == 200
                        return
                except OSError:
                    time.sleep(0.1)
            raise AssertionError(f"{line}: no answer")
        finally:
            page.send_signal(signal.SIGINT)


def follow(page: str, workplace: Path, store: FaultyS3) -> list[str]:
    """Runs the lines of a tutorial in order and returns them."""
    path = os.pathsep.join([str(workplace / "programs"), os.environ["PATH"]])
    variables = {**os.environ, **store.environment, "PATH": path, "CLIPMILL_CACHE": str(workplace / "cache")}
    lines = commands(PAGES[page])
    for line in lines:
        if line.startswith("export "):  # the store's own are in the environment already
            assert all(word.partition("=")[0] in variables for word in line.split()[1:])
        elif line.startswith("clipmill explore"):
            look(line, workplace, variables)
        elif line.startswith("clipmill models fetch"):
            run(f"clipmill models {line.split()[3]}", workplace, variables)
            (workplace / "weights").mkdir(exist_ok=True)
        else:
            run(MODEL.sub("", line), workplace, variables)
    return lines


def test_photographs(workplace: Path, store: FaultyS3) -> None:
    lines = follow("tutorial_photographs", workplace, store)
    assert len(lines) >= 7
    assert (workplace / "dogs.html").is_file()
    assert yaml.safe_load((workplace / "photos.yaml").read_text())["embed"]["input"].endswith("photos")


def test_from_clip_retrieval(workplace: Path, store: FaultyS3) -> None:
    assert len(follow("tutorial_clip_retrieval", workplace, store)) == 2


def test_s3(workplace: Path, store: FaultyS3) -> None:
    for picture in sorted((workplace / "photos").iterdir()):
        store.client.upload_file(str(picture), "photos", f"2026/{picture.name}")
    assert len(follow("tutorial_s3", workplace, store)) >= 10
    kept = store.client.list_objects_v2(Bucket="vectors")["Contents"]
    assert [one["Key"] for one in kept if one["Key"].endswith("current.json")] == ["2026/current.json"]


def test_kubernetes(workplace: Path, store: FaultyS3) -> None:
    variables = {**os.environ, **store.environment}
    for night in range(2):
        Image.new("RGB", (30, 30), (90 * night, 0, 0)).save(workplace / f"photos/new{night}.jpg")
        run(f"programs/clipmill run {workplace}/photos --output s3://example-vectors/photos", workplace, variables)
    assert len(follow("tutorial_kubernetes", workplace, store)) >= 14


def test_every_tutorial_is_followed() -> None:
    assert {f"test_{name.removeprefix('tutorial_')}" for name in PAGES} == {
        "test_photographs",
        "test_clip_retrieval",
        "test_s3",
        "test_kubernetes",
    }
    assert all(commands(page) for page in PAGES.values())
