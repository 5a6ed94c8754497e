"""Small pictures and tables that the tests of this room share."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipmill.source.locating import _bucket


@pytest.fixture
def jpeg() -> Callable[[int], bytes]:
    """A small JPEG, another for every number."""

    def make(number: int = 0) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (8, 6), (number * 37 % 256, number * 101 % 256, 128)).save(stream, "JPEG")
        return stream.getvalue()

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes columns, or a table, as a Parquet file below the test's folder."""

    def write_file(name: str, columns: dict[str, Any] | pa.Table, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
        return path

    return write_file


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 client of a server in this process, with one empty bucket called `photos`."""
    server_module = pytest.importorskip("moto.server")
    import boto3

    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    _bucket.cache_clear()  # it knows the server of an earlier test
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    yield client
    server.stop()
