"""S3 through the one filesystem: files, folders and listings, whole in spite of faults, and failures told in words."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from clipmill import storage
from clipmill.core.errors import ClipmillError, RunFailed, StorageFailed, StorageRefused, UserError
from clipmill.source.inputs import find_inputs
from clipmill.source.locating import _bucket, locate
from clipmill.storage import Location
from clipmill.storage.s3 import client as s3_client
from clipmill.storage.s3 import reading, transfer
from faulty_s3 import ACCESS_KEY, BUCKET, KINDS, SECRET_KEY, FaultyS3


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with FaultyS3() as running:
        yield running


@pytest.fixture
def store(server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    for name in list(os.environ):
        if name.startswith(("AWS_", "CLIPMILL_S3_")):
            monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(s3_client, "_LONGEST_PAUSE", 0.02)
    s3_client.forget()
    _bucket.cache_clear()
    server.forget_counts()
    yield server
    server.plan = None
    server.share = 0.0
    s3_client.forget()
    _bucket.cache_clear()


def place(test: str) -> Location:
    return storage.resolve(f"s3://{BUCKET}/{test}")


def once(kind: str, method: str | None = None):
    """A plan that spoils the first request, or the first of a method."""
    done = []

    def plan(number: int, requested: str, path: str) -> str | None:
        if done or method not in (None, requested):
            return None
        done.append(number)
        return kind

    return plan


def test_files_and_folders_are_told_apart(store: FaultyS3) -> None:
    folder = place("kinds")
    storage.write_bytes(folder / "sub/file", b"12345")
    store.client.put_object(Bucket=BUCKET, Key="kinds/marker/", Body=b"")
    store.client.put_object(Bucket=BUCKET, Key="kinds/sub-way", Body=b"")
    types = {
        name: folder.filesystem.get_file_info((folder / name).path).type
        for name in ("sub", "sub/file", "marker", "su", "sub/file/x", "sub-way")
    }
    assert types == {
        "sub": fs.FileType.Directory,
        "sub/file": fs.FileType.File,
        "marker": fs.FileType.Directory,
        "su": fs.FileType.NotFound,
        "sub/file/x": fs.FileType.NotFound,
        "sub-way": fs.FileType.File,
    }
    assert [info.path for info in storage.list_files(folder)] == [f"{BUCKET}/kinds/sub-way", f"{BUCKET}/kinds/sub/file"]
    assert [info.path for info in storage.list_files(folder, recursive=False)] == [f"{BUCKET}/kinds/sub-way"]
    assert storage.is_file(folder / "sub/file")
    assert not storage.is_file(folder / "sub")
    assert storage.list_files(folder / "absent") == []
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(folder / "sub")
    with pytest.raises(FileNotFoundError):
        folder.filesystem.open_input_file((folder / "sub").path)


def test_a_listing_takes_a_request_for_a_thousand_keys_whatever_the_folders(store: FaultyS3) -> None:
    names = [f"many/{number % 50:02d}/{number:05d}" for number in range(2100)]
    store.put_many(names)
    found = [info.path for info in storage.list_files(place("many"))]
    assert found == [f"{BUCKET}/{name}" for name in sorted(names)]
    assert store.requests == {"GET": 3}
    store.forget_counts()
    storage.remove(place("many"))
    assert store.requests == {"GET": 3, "POST": 3}
    assert storage.list_files(place("many")) == []


@pytest.mark.parametrize("size", [0, 1, reading.TAIL - 1, reading.TAIL, reading.TAIL + 1, 700_001])
def test_a_file_reads_the_same_from_anywhere(size: int, store: FaultyS3) -> None:
    data = np.random.default_rng(size).bytes(size)
    file = place(f"sizes/{size}")
    storage.write_bytes(file, data)
    assert storage.read_bytes(file) == data
    assert storage.sha256(file) == storage.write_bytes(file, data).sha256
    rng = np.random.default_rng(1)
    with file.filesystem.open_input_file(file.path) as stream:
        assert stream.size() == size
        for _ in range(30):
            start, length = (int(value) for value in rng.integers(0, size + 2, 2))
            stream.seek(min(start, size))
            assert stream.read(length) == data[start : start + length]
        stream.seek(0)
        assert stream.read() == data
    with file.filesystem.open_input_stream(file.path) as stream:
        assert stream.read(3) + stream.read() == data


def test_a_small_file_is_opened_and_read_in_one_request(store: FaultyS3) -> None:
    file = place("small.parquet")
    storage.write_table(file, pa.table({"a": range(100)}))
    store.forget_counts()
    assert storage.read_table(file).column("a").to_pylist() == list(range(100))
    assert store.requests == {"GET": 1}


def test_reading_on_takes_fewer_and_larger_requests(store: FaultyS3) -> None:
    data = os.urandom(3 << 20)
    file = place("long")
    storage.write_bytes(file, data)
    store.forget_counts()
    with file.filesystem.open_input_file(file.path) as stream:
        assert b"".join(iter(lambda: stream.read(10_000), b"")) == data
    assert store.requests["GET"] <= 8


@pytest.mark.parametrize("kind", [*KINDS, "stall"])
def test_one_fault_of_any_kind_costs_one_request_and_nothing_else(
    kind: str, store: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "stall":
        monkeypatch.setenv("CLIPMILL_S3_TIMEOUT", "2")
    data = os.urandom(200_000)
    file = place(f"faults/{kind}")
    steps = {
        "write": lambda: storage.write_bytes(file, data),
        "read": lambda: storage.read_bytes(file),
        "open": lambda: file.filesystem.open_input_file(file.path).read(),
        "stream": lambda: file.filesystem.open_input_stream(file.path).read(),
        "list": lambda: [info.size for info in storage.list_files(place("faults"))],
        "ask": lambda: storage.exists(file),
        "remove": lambda: storage.remove(file),
    }
    for name, step in steps.items():
        store.plan = None
        store.forget_counts()
        expected = step()
        without = store.requests.total()
        if name == "remove":
            storage.write_bytes(file, data)
        store.forget_counts()
        store.plan = once(kind)
        assert step() == expected
        assert store.faults.total() == 1
        assert store.requests.total() == without + 1, name


def test_a_body_that_breaks_often_is_continued_where_it_stopped(store: FaultyS3) -> None:
    data = os.urandom(400_000)
    file = place("broken")
    storage.write_bytes(file, data)
    store.forget_counts()
    store.plan = lambda number, method, path: "short" if number < 6 else None
    assert storage.read_bytes(file) == data
    starts = [int(headers["Range"].split("=")[1].split("-")[0]) for headers in store.headers if "Range" in headers]
    assert starts == sorted(set(starts))
    assert len(starts) == 6
    assert starts[0] >= len(data) // 2
    assert len({headers["If-Match"] for headers in store.headers[1:]}) == 1


def test_a_body_that_never_gets_on_ends_in_words(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMILL_S3_PATIENCE", "0.5")
    file = place("hopeless")
    storage.write_bytes(file, b"1")
    store.plan = lambda number, method, path: "short" if method == "GET" else None
    with pytest.raises(RunFailed, match=r"s3://bucket/hopeless: reading broke off [0-9]+ times at byte 0"):
        storage.read_bytes(file)


def test_what_is_replaced_while_it_is_read_is_an_error_and_no_mix(store: FaultyS3) -> None:
    file = place("replaced")
    storage.write_bytes(file, b"a" * 300_000)
    stream = file.filesystem.open_input_file(file.path)
    assert stream.read(10) == b"a" * 10
    storage.write_bytes(file, b"b" * 300_000)
    stream.seek(150_000)
    with pytest.raises(RunFailed, match="replaced while it was being read"):
        stream.read(10)
    again = file.filesystem.open_input_file(file.path)
    storage.remove(file)
    with pytest.raises(RunFailed, match="deleted while it was being read"):
        again.read(10)


def test_errors_come_through_parquet_and_its_threads_as_they_are(store: FaultyS3) -> None:
    file = place("threads.parquet")
    columns = {name: np.random.default_rng(0).random(50_000) for name in "abcd"}
    storage.write_table(file, pa.table(columns), row_group_size=10_000)
    with file.filesystem.open_input_file(file.path) as stream:
        store.plan = lambda number, method, path: "403"
        with pytest.raises(UserError, match="access denied"):
            pq.ParquetFile(stream, pre_buffer=True).read(use_threads=True)


def test_a_large_file_goes_up_in_parts_of_which_each_is_retried(store: FaultyS3) -> None:
    data = os.urandom(40 << 20)
    file = place("large")
    store.forget_counts()
    store.plan = lambda number, method, path: "500" if "partNumber=2" in path and not store.faults else None
    written = storage.write_bytes(file, data)
    assert store.faults == {"500": 1}
    assert store.requests == {"POST": 2, "PUT": 4}
    assert written.bytes == len(data)
    assert storage.sha256(file) == written.sha256


def test_unfinished_uploads_go_with_the_staging_folder(store: FaultyS3) -> None:
    for key in (".out.staging/x/part", "other/part"):
        store.client.create_multipart_upload(Bucket=BUCKET, Key=key)
    storage.remove(storage.staging_of(place("out")))
    left = store.client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    assert [upload["Key"] for upload in left] == ["other/part"]
    store.client.abort_multipart_upload(Bucket=BUCKET, Key="other/part", UploadId=left[0]["UploadId"])


def test_small_files_are_read_where_requests_fail(store: FaultyS3) -> None:
    files = [place(f"records/{number}") for number in range(40)]
    for number, file in enumerate(files):
        storage.write_bytes(file, str(number).encode())
    store.share = 0.2
    assert [storage.read_bytes(file) for file in files] == [str(number).encode() for number in range(40)]
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(place("records/none"))


def test_no_client_and_no_credential_travels(store: FaultyS3) -> None:
    location = place("travels")
    storage.write_bytes(location, b"x")
    pickled = pickle.dumps(location)
    assert SECRET_KEY.encode() not in pickled
    assert ACCESS_KEY.encode() not in pickled
    assert len(pickled) < 500
    again = pickle.loads(pickled)
    assert again == location
    assert storage.read_bytes(again) == b"x"


def test_input_files_carry_their_etag_and_take_one_request_each(store: FaultyS3) -> None:
    for number in range(5):
        storage.write_table(place(f"input/{number}.parquet"), pa.table({"caption": ["a"], "id": [number]}))
    etags = [
        item["ETag"].strip('"') for item in store.client.list_objects_v2(Bucket=BUCKET, Prefix="input/")["Contents"]
    ]
    locate(f"s3://{BUCKET}/x")
    store.forget_counts()
    assert [file.etag for file in find_inputs(f"s3://{BUCKET}/input/")] == etags
    # whether it is a file, what is in it, whether a killed run left it half; then the files
    assert store.requests["HEAD"] + store.requests["GET"] == 3 + 5


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("403", "access denied; ask for the permission"),
        ("expired", "credentials have expired"),
        ("unknown key", "does not know the access key"),
        ("wrong signature", "secret key does not belong"),
        ("moved", "another region; set AWS_REGION"),
    ],
)
def test_refusals_are_told_with_the_place_and_what_to_do(kind: str, said: str, store: FaultyS3, tmp_path: Path) -> None:
    file = place("refused/x")
    steps = [
        lambda: storage.exists(file),
        lambda: storage.list_files(file),
        lambda: storage.read_bytes(file),
        lambda: storage.read_table(file),
        lambda: storage.sha256(file),
        lambda: storage.write_bytes(file, b""),
        lambda: storage.write_bytes(file, bytes(9 << 20)),
        lambda: storage.write_if(file, b"", None),
        lambda: storage.remove(file),
        lambda: storage.publish(file, place("refused/y")),
        lambda: storage.local_copy(file, tmp_path, "00"),
        lambda: find_inputs("s3://bucket/refused/"),
    ]
    store.plan = lambda number, method, path: kind
    for step in steps:
        with pytest.raises(UserError, match=said) as caught:
            step()
        text = str(caught.value)
        assert text.startswith("s3://bucket")
        assert "\n" not in text
        assert SECRET_KEY not in text
        assert ACCESS_KEY not in text


@pytest.mark.parametrize(
    ("step", "permission"),
    [
        (storage.read_bytes, "s3:GetObject"),
        (storage.list_files, "s3:ListBucket"),
        (lambda file: storage.write_bytes(file, b""), "s3:PutObject"),
    ],
)
def test_a_denial_names_the_permission(step, permission: str, store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    store.plan = lambda number, method, path: "403"
    with pytest.raises(UserError, match=rf"{permission} .*CLIPMILL_S3_REQUESTER_PAYS"):
        step(place("denied"))
    monkeypatch.setenv("CLIPMILL_S3_REQUESTER_PAYS", "1")
    with pytest.raises(UserError, match=permission) as caught:
        step(place("denied"))
    assert "REQUESTER" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(store: FaultyS3) -> None:
    file = storage.resolve("s3://nowhere/a/b")
    for step in (storage.exists, storage.list_files, storage.remove, lambda place: storage.write_bytes(place, b"")):
        with pytest.raises(UserError, match=r"s3://nowhere/a/b: there is no bucket called nowhere"):
            step(file)
    with pytest.raises(UserError, match="no bucket called nowhere"):
        locate("s3://nowhere/a")


def test_missing_credentials_and_profiles_are_told(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=r"s3://bucket/x: no AWS credentials .*CLIPMILL_S3_ANONYMOUS"):
        storage.read_bytes(place("x"))
    monkeypatch.setenv("AWS_PROFILE", "unheard-of")
    with pytest.raises(UserError, match=r"unheard-of.* AWS_PROFILE"):
        storage.read_bytes(place("x"))


def test_an_endpoint_that_does_not_answer_is_given_up_soon(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RunFailed, match=r"s3://bucket/x: http://127.0.0.1:9 cannot be reached .* AWS_ENDPOINT_URL"):
        storage.read_bytes(place("x"))


def test_a_store_that_keeps_failing_is_told_after_the_attempts_allowed(
    store: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMILL_S3_PATIENCE", "0.5")
    store.plan = lambda number, method, path: "503"
    with pytest.raises(RunFailed, match=r"kept failing \(SlowDown\)"):
        storage.list_files(place("x"))
    assert store.requests["GET"] > 1


def test_a_store_that_is_full_is_told_of(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMILL_S3_PATIENCE", "0.1")
    store.plan = lambda number, method, path: "500"
    with pytest.raises(RunFailed, match=r"kept failing \(InternalError\) for 0.1 seconds .*disks are full"):
        storage.write_bytes(place("x"), b"x")


def test_a_store_that_is_away_for_a_while_is_waited_for_also_by_a_process_that_never_had_an_answer(
    store: FaultyS3,
) -> None:
    """The command had one before it started the worker. Alone, a process gives up soon what never answered."""
    storage.write_bytes(place("there"), b"x")
    read = "from clipmill import storage; print(storage.read_bytes(storage.resolve('s3://bucket/there')))"
    store.plan = lambda number, method, path: "reset"
    worker = subprocess.Popen([sys.executable, "-c", read], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    alone_environment = {name: value for name, value in os.environ.items() if name != "CLIPMILL_S3_REACHED"}
    alone = subprocess.run([sys.executable, "-c", read], env=alone_environment, capture_output=True)
    assert b"cannot be reached" in alone.stderr or b"kept failing" in alone.stderr
    assert worker.poll() is None
    store.plan = None
    assert worker.communicate(timeout=100)[0].strip() == b"b'x'"


def test_requests_carry_what_was_asked_for(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(place("carried"), b"x")
    assert "Authorization" in store.headers[-1]
    assert not any(name.lower() == "x-amz-request-payer" for name in store.headers[-1])
    monkeypatch.setenv("CLIPMILL_S3_REQUESTER_PAYS", "1")
    store.forget_counts()
    storage.read_bytes(place("carried"))
    storage.write_bytes(place("carried"), bytes(9 << 20))
    storage.remove(place("carried"))
    assert {headers["x-amz-request-payer"] for headers in store.headers} == {"requester"}
    monkeypatch.setenv("CLIPMILL_S3_ANONYMOUS", "1")
    store.forget_counts()
    storage.list_files(place("carried"))
    assert "Authorization" not in store.headers[-1]


def test_a_custom_endpoint_gets_paths_unless_told_otherwise(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example")
    urls = []
    for style in ("", "virtual"):
        monkeypatch.setenv("CLIPMILL_S3_ADDRESSING_STYLE", style)
        urls.append(s3_client.client().generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"}))
    assert urls[0].startswith("http://store.example/bucket/k?")
    assert urls[1].startswith("http://bucket.store.example/k?")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLIPMILL_S3_ANONYMOUS", "perhaps"),
        ("CLIPMILL_S3_ADDRESSING_STYLE", "sideways"),
        ("CLIPMILL_S3_TIMEOUT", "-1"),
        ("CLIPMILL_S3_PATIENCE", "many"),
        ("AWS_ENDPOINT_URL", "localhost:9000"),
        ("AWS_ENDPOINT_URL", f"https://key:{SECRET_KEY.replace('/', '')}@host"),
    ],
)
def test_settings_that_mean_nothing_are_named(
    name: str, value: str, store: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=name) as caught:
        storage.read_bytes(place("x"))
    assert "v3rySecret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://{ACCESS_KEY}:{SECRET_KEY.replace('/', '')}@bucket/x",
        f"s3://bucket/x?secret_key={SECRET_KEY.replace('/', '')}",
        f"s3://bucket?endpoint_override=host&secret_key={SECRET_KEY.replace('/', '')}",
        f"gs://{ACCESS_KEY}:{SECRET_KEY.replace('/', '')}@bucket/x",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(UserError) as caught:
        storage.resolve(uri)
    assert "v3rySecret" not in str(caught.value)
    assert ACCESS_KEY not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "s3://bucket//x"])
def test_a_uri_without_a_name_is_refused(uri: str) -> None:
    with pytest.raises(ClipmillError, match="write s3://bucket/prefix"):
        storage.resolve(uri)


def test_wildcards_and_odd_names_are_kept() -> None:
    assert storage.resolve("s3://bucket/part-?.parquet").path == "bucket/part-?.parquet"
    assert storage.resolve("s3://bucket/a%20b c/é/").uri == "s3://bucket/a%20b c/é"


@pytest.mark.parametrize("kind", [*KINDS, "stall"])
def test_a_conditional_write_knows_its_own_earlier_attempt(
    kind: str, store: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "stall":
        monkeypatch.setenv("CLIPMILL_S3_TIMEOUT", "2")
    file = place(f"claims/{kind}")
    store.plan = once(kind, "PUT")
    first = storage.write_if(file, b"mine", None)
    assert first == storage.read_versioned(file).version
    store.plan = once(kind, "PUT")
    second = storage.write_if(file, b"mine again", first)
    assert second == storage.read_versioned(file).version
    store.plan = once(kind, "PUT")
    assert storage.write_if(file, b"another's", first) is None
    assert storage.write_if(file, b"another's", None) is None
    assert storage.read_bytes(file) == b"mine again"


def test_conflicts_of_conditional_writes_are_waited_out(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []
    monkeypatch.setattr(transfer, "pause", lambda attempt: pauses.append(attempt) or 0.0)
    store.plan = lambda number, method, path: "409" if method == "PUT" and len(pauses) < 3 else None
    assert storage.write_if(place("conflict"), b"one", None) is not None
    assert pauses == [1, 2, 3]


def test_conflicts_without_end_are_no_other_run(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "pause", lambda attempt: 0.0)
    store.plan = lambda number, method, path: "409" if method == "PUT" else None
    with pytest.raises(StorageFailed, match="conflict-for-ever: others wrote to it"):
        storage.write_if(place("conflict-for-ever"), b"one", None)


def test_an_address_that_is_none_is_told_when_a_bucket_is_asked_for(
    store: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://bad host:1")
    with pytest.raises(StorageRefused, match="AWS_ENDPOINT_URL is not the address of a store"):
        storage.bucket_is_absent("bucket")


def test_the_age_of_a_file_is_told_by_the_clock_of_the_store(store: FaultyS3) -> None:
    file = place("aged")
    storage.write_bytes(file, b"x")
    store.ahead = 500.0
    assert 499 <= storage.read_versioned(file).age <= 560
    store.ahead = 0.0


def test_every_request_has_all_its_attempts_however_often_others_failed(store: FaultyS3) -> None:
    storage.write_bytes(place("patience"), b"x")
    store.forget_counts()
    store.plan = lambda number, method, path: None if number % 10 == 9 else "500"
    for _ in range(8):
        assert storage.read_bytes(place("patience")) == b"x"
    assert store.requests == {"GET": 80}


def test_workers_are_told_which_s3_is_meant_and_no_secret(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from clipmill.core.settings import ClusterSettings
    from clipmill.engine.cluster import connect

    endpoint = store.environment["AWS_ENDPOINT_URL"]
    given: list[dict] = []

    def init(**options: dict) -> None:
        given.append(options)
        raise ConnectionError("no cluster here")

    def variables(**environment: str) -> object:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        answering = endpoint.removeprefix("http://")
        with pytest.raises(UserError, match="no cluster here"), connect(ClusterSettings(address=answering)):
            pass
        return given[-1]["runtime_env"]["env_vars"]

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    expected = {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1", "CLIPMILL_S3_REQUESTER_PAYS": "1"}
    assert variables(CLIPMILL_S3_REQUESTER_PAYS="1", AWS_SESSION_TOKEN="secret") == expected
    job = '{"runtime_env": {"env_vars": {"AWS_ENDPOINT_URL": "x", "AWS_DEFAULT_REGION": "y"}}}'
    assert variables(RAY_JOB_CONFIG_JSON_ENV_VAR=job) == {"CLIPMILL_S3_REQUESTER_PAYS": "1"}
    for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "CLIPMILL_S3_REQUESTER_PAYS"):
        monkeypatch.delenv(name)
    assert variables(RAY_JOB_CONFIG_JSON_ENV_VAR="") == {}
