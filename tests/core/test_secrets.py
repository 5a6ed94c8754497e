"""No credentials are shown, and what is none stays as it is."""

import json

import pytest

from clipmill.core import log
from clipmill.core.errors import ClipmillError, RunFailed, UserError
from clipmill.core.schemas import Reason
from clipmill.core.secrets import clean
from clipmill.source.diagnosis import Rejected

SECRET = "wJalr/XUtn+FEMI=K7MDENG"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://AKIAKEY:{SECRET}@bucket/a",
        f"s3:/AKIAKEY:{SECRET}@bucket/a",
        f"/work/s3:/AKIAKEY:{SECRET}@bucket/a: no such file",
        f"s3:///AKIAKEY:{SECRET}@bucket",
        f"https://user:{SECRET}@host/a",
        f"s3://{SECRET.replace('/', '')}@bucket/a",
        f"https://b.s3.amazonaws.com/a.jpg?X-Amz-Credential=AK&X-Amz-Signature={SECRET}&a=b",
        f"HTTPS://b.s3.amazonaws.com/a.jpg?X-Amz-Signature={SECRET} is a web address",
        f"s3://bucket/a?secret_key={SECRET}",
        f"gs://bucket/a?anything={SECRET}",
        f"('a.jpg?Signature={SECRET}', 3)",
        f"token={SECRET}",
    ],
)
def test_credentials_are_gone_from_all_that_is_said(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (SECRET, "MDENG", "XUtn"):
        assert part not in clean(text)
        assert part not in json.loads(clean(json.dumps({"a": [text, f'"{text}"']})))["a"][0]
        assert part not in str(UserError(text))
        assert part not in str(RunFailed(text))
        assert part not in Rejected(Reason.NOT_AN_IMAGE, text).detail
        for formatter in (log.TextFormatter(), log.JsonFormatter()):
            record = log.LOGGER.makeRecord("clipmill", 30, "f", 1, "%s", (text,), None)
            assert part not in formatter.format(record)


def test_secrets_of_the_environment_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefgh12345")
    assert clean("key abcdefgh12345 is wrong") == "key … is wrong"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert clean("an x") == "an x"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a/b.parquet",
        "s3://bucket/a:b@c.jpg",
        "http://localhost:9000/bucket/a@b",
        "/data/a@b/c: no such file",
        "what is this? a dog",
        "write s3://bucket/prefix, or file:///data/x",
        "me@example.org",
        "row 3: a = b",
    ],
)
def test_what_holds_no_credentials_stays(text: str) -> None:
    assert clean(text) == text
    assert str(ClipmillError(text)) == text


def test_json_stays_json() -> None:
    document = {"a": 'https://e.org/a?b="c\\', "b": ["s3://k:v@b\n", 'token="x" y']}
    assert set(json.loads(clean(json.dumps(document)))) == {"a", "b"}
