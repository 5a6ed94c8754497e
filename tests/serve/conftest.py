"""A published place with pictures, captions and columns, and the service over it without a network."""

import colorsys
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from PIL import Image

from clipmill.serve.limits import Limits
from clipmill.serve.service import Service, encoders_here, named_of
from clipmill.serve.web.access import Access
from clipmill.serve.web.app import make_app
from clipmill_jobs.__main__ import main

ROWS = 48
HOSTILE = '<img src=x onerror="document.title=1"><script>alert(1)</script>'


def picture(number: int) -> bytes:
    red, green, blue = (int(255 * part) for part in colorsys.hsv_to_rgb(number / ROWS, 0.9, 0.9))
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (red, green, blue)).save(stream, "PNG")
    return stream.getvalue()


def write_input(path: Path, numbers: range) -> None:
    columns = {
        "id": [f"picture-{number}" for number in numbers],
        "image": pa.array([picture(number) for number in numbers], pa.binary()),
        "caption": [[f"plain colour {number}", HOSTILE] for number in numbers],
        "label": ["odd" if number % 2 else "even" for number in numbers],
        "year": pa.array([2000 + number for number in numbers], pa.int32()),
        "price": pa.array([number / 4 for number in numbers], pa.float64()),
        "note": [f"{HOSTILE} {number}" for number in numbers],
    }
    pq.write_table(pa.table(columns), path)


def clipmill(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def publish(folder: Path) -> str:
    """Runs the place's configuration; the name of the version that is read then."""
    clipmill("run", folder / "run.yaml")
    return str(json.loads((folder / "out/current.json").read_text())["version"])


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input, a run file and what was published of it in ``out/``. Read only: see `own_place`."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "in").mkdir()
    write_input(folder / "in/a.parquet", range(ROWS))
    text = f"output: {folder / 'out'}\nembed:\n  input: {folder / 'in'}\n  thumbnails: 64\n"
    (folder / "run.yaml").write_text(text)
    publish(folder)
    return folder


@pytest.fixture
def own_place(tmp_path: Path) -> Path:
    """A published place of a test's own, of twelve pictures, that it may change."""
    (tmp_path / "in").mkdir()
    write_input(tmp_path / "in/a.parquet", range(12))
    text = f"output: {tmp_path / 'out'}\nembed:\n  input: {tmp_path / 'in'}\n  thumbnails: 32\n"
    (tmp_path / "run.yaml").write_text(text)
    publish(tmp_path)
    return tmp_path


def open_service(*places: object, **limits: object) -> Service:
    bounds = Limits(**limits)  # type: ignore[arg-type]
    encoders = encoders_here(bounds, None, None, trusted=False)
    return Service.open(named_of([str(place) for place in places]), bounds, encoders, Path("unused"))


@pytest.fixture(scope="session")
def service(published: Path) -> Service:
    return open_service(f"photos={published / 'out'}")


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(make_app(service, Access()), base_url="http://localhost:8000") as client:
        yield client


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies the published place; its embeddings stay where they are."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(published / "out", tmp_path / name))

    return copy
