"""What a failed request means, in one sentence that names the object and what to do."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boto3.exceptions import Boto3Error
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from clipmill.core.errors import ClipmillError, RunFailed, StorageFailed, StorageRefused
from clipmill.storage.s3.settings import S3Settings

FAILURES = (BotoCoreError, ClientError, Boto3Error)

_WRONG_CREDENTIALS = {
    "InvalidAccessKeyId": "the store does not know the access key",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "InvalidToken": "the session token is not valid",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "TokenRefreshRequired": "the credentials have expired",
    "InvalidClientTokenId": "the store does not know the access key",
    "NotSignedUp": "the account is not signed up for S3",
}
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess"}
_ABSENT = {"NoSuchKey", "404", "NotFound"}
_ELSEWHERE = {
    "PermanentRedirect",
    "301",
    "307",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "TemporaryRedirect",
}
_OVERLOADED = {"SlowDown", "503", "ServiceUnavailable", "InternalError", "500", "502", "504", "429", "RequestTimeout"}
_FULL = ", as a store does too whose disks are full: see whether there is room"
_NO_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or CLIPMILL_S3_ANONYMOUS=1 for a public bucket"
)


@contextmanager
def told(path: str, permission: str) -> Iterator[None]:
    """What fails inside, told about ``path`` (bucket/key). ``permission`` is what it needs, such as ``s3:GetObject``.

    Raises FileNotFoundError where there is no such object, else StorageRefused or StorageFailed.
    """
    try:
        yield
    except FAILURES as error:
        raise explain(error, path, permission) from None
    except ValueError as error:
        if "endpoint" not in str(error).lower():
            raise
        raise StorageRefused(f"s3://{path}: AWS_ENDPOINT_URL is not the address of a store; correct it") from None


def explain(error: Exception, path: str, permission: str) -> ClipmillError | FileNotFoundError:
    """The error to raise instead. Texts of the SDK that may hold more than the user should see are left out."""
    uri = f"s3://{path}"
    while isinstance(error.__cause__, FAILURES):
        error = error.__cause__
    if isinstance(error, ClientError):
        return _explain_answer(error, uri, permission)
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        return StorageRefused(f"{uri}: no AWS credentials were found on {socket.gethostname()}; {_NO_CREDENTIALS}")
    if isinstance(error, boto.ProfileNotFound):
        return StorageRefused(
            f"{uri}: {error} on {socket.gethostname()}; correct AWS_PROFILE, or add the profile there"
        )
    if _is_about_credentials(error):
        return StorageRefused(
            f"{uri}: credentials could not be obtained ({type(error).__name__}); renew them (`aws sso login`, or your "
            "own way to sign in) and run the same command again"
        )
    if isinstance(error, (boto.ParamValidationError, boto.InvalidS3AddressingStyleError)):
        return StorageRefused(f"{uri} is not a name that S3 can have; correct the bucket or the path")
    if isinstance(error, (boto.NoRegionError, boto.InvalidRegionError)):
        return StorageRefused(f"{uri}: no AWS region, or one that does not exist; set AWS_REGION")
    endpoint = S3Settings.from_environment().endpoint or "S3"
    if isinstance(error, boto.SSLError):
        return StorageRefused(f"{uri}: {endpoint} has no certificate that is trusted here; see AWS_CA_BUNDLE")
    if isinstance(error, (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError)):
        return StorageFailed(
            f"{uri}: {endpoint} cannot be reached from {socket.gethostname()}; see to the network and to "
            "AWS_ENDPOINT_URL, and run the same command again"
        )
    return StorageFailed(
        f"{uri}: {endpoint} kept failing ({type(error).__name__}) for {S3Settings.from_environment().patience:g} seconds "
        "(CLIPMILL_S3_PATIENCE); run the same command again"
    )


def code_of(error: Exception) -> str:
    """The store's code of an error, or nothing where the store did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def status_of(error: Exception) -> int:
    """The HTTP status of an error, or 0 where the store did not answer."""
    answer: Any = getattr(error, "response", None) or {}
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _explain_answer(error: ClientError, uri: str, permission: str) -> ClipmillError | FileNotFoundError:
    code, status = code_of(error), status_of(error)
    bucket = uri.removeprefix("s3://").split("/", 1)[0]
    if code in _ABSENT:
        return FileNotFoundError(uri)
    if code == "NoSuchBucket":
        return StorageRefused(
            f"{uri}: there is no bucket called {bucket}; create it, or correct the name or the endpoint"
        )
    if code in _WRONG_CREDENTIALS:
        return StorageRefused(f"{uri}: {_WRONG_CREDENTIALS[code]} ({code}); renew the credentials and run this again")
    if code == "RequestTimeTooSkewed":
        return StorageRefused(f"{uri}: the clock of {socket.gethostname()} is wrong, so requests are refused; set it")
    if code in _DENIED or (status == 403 and code not in _OVERLOADED):
        return StorageRefused(f"{uri}: access denied; {_advice(permission, uri)}")
    if code in _ELSEWHERE or status in (301, 307):
        return StorageRefused(f"{uri}: the bucket is in another region; set AWS_REGION to the region of {bucket}")
    if code in ("InvalidBucketName", "KeyTooLongError"):
        return StorageRefused(f"{uri} is not a name that S3 can have ({code}); correct the bucket or the path")
    if code == "InvalidObjectState":
        return StorageRefused(f"{uri} is archived and cannot be read; restore it first")
    if code == "PreconditionFailed":
        return RunFailed(f"{uri} was replaced while it was being read; run the same command again")
    if code in _OVERLOADED or status >= 500:
        return StorageFailed(
            f"{uri}: the store kept failing ({code or status}) for {S3Settings.from_environment().patience:g} seconds "
            f"(CLIPMILL_S3_PATIENCE){_FULL if status == 500 else ''}; wait a little and run the same command again"
        )
    message = str(error.response.get("Error", {}).get("Message", "")).splitlines()
    return StorageFailed(f"{uri}: the store refused the request ({code}: {message[0] if message else status})")


def _advice(permission: str, uri: str) -> str:
    settings = S3Settings.from_environment()
    where = uri if permission != "s3:ListBucket" else "s3://" + uri.removeprefix("s3://").split("/", 1)[0]
    advice = f"ask for the permission {permission} on {where}"
    if permission == "s3:GetObject":
        advice += " (where s3:ListBucket is missing too, an object that does not exist looks the same)"
    if settings.anonymous:
        advice += ", or unset CLIPMILL_S3_ANONYMOUS to use your credentials"
    elif not settings.requester_pays:
        advice += ", or set CLIPMILL_S3_REQUESTER_PAYS=1 if the bucket's owner lets requesters pay"
    return advice


def _is_about_credentials(error: Exception) -> bool:
    kinds = (
        boto.CredentialRetrievalError,
        boto.MetadataRetrievalError,
        boto.SSOError,
        boto.TokenRetrievalError,
        boto.UnauthorizedSSOTokenError,
        boto.RefreshWithMFAUnsupportedError,
        boto.ConfigNotFound,
        boto.ConfigParseError,
        boto.InvalidConfigError,
        boto.InfiniteLoopConfigError,
    )
    return isinstance(error, kinds)
