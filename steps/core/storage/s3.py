"""The object store of a lake at s3://: how each reader and writer is told of it, and whether it answers.

Keys come from where AWS's own tools take them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN), a
profile, or the role of the machine. They are in no setting here: what Spark is told stands on its command line.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from steps.core.errors import ObjectStoreUnavailable
from steps.core.process import waiting

SCHEME = "s3://"
ENDPOINTS = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # environment variables
CONNECT_SECONDS = 5
ATTEMPTS = 3  # a store that restarts is waited for, backing off
# What a store says, and what that means to whoever gave the settings.
REASONS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidAccessKeyId": "it does not know the key in AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret in AWS_SECRET_ACCESS_KEY is not that of the key in AWS_ACCESS_KEY_ID",
    "AccessDenied": "these keys may not use it",
    "ExpiredToken": "the token in AWS_SESSION_TOKEN has expired",
    "XMinioStorageFull": "its disk is full",
}


_usable: dict[str, str] = {}  # buckets that this process has asked for, and the URI by which it did


class Location(NamedTuple):
    """Bucket and key of an object, or of a prefix of keys."""

    bucket: str
    key: str


def locate(uri: str) -> Location:
    """Bucket and key of an s3:// URI."""
    return Location(*(uri.removeprefix(SCHEME).partition("/")[::2]))


def check(uri: str) -> None:
    """ObjectStoreUnavailable, saying why, when the store cannot be used at `uri`; asked once for a bucket."""
    bucket = locate(uri).bucket
    if bucket not in _usable:
        if reason := unavailability(uri):
            raise unavailable(uri, reason)
        _usable[bucket] = uri


def store_failure(error: Exception) -> ObjectStoreUnavailable | None:
    """What `error` says of the store in Spark's words, or what check() would say now of buckets that it has passed."""
    reason_in_error = next((REASONS[code] for code in REASONS if code in str(error)), "") or _unanswered(error)
    for uri in _usable.values():
        if reason := reason_in_error or unavailability(uri):
            return unavailable(uri, reason)
    return None


def _unanswered(error: Exception) -> str:
    """What boto3 says when it has got no answer, though there may be one by now."""
    from botocore.exceptions import BotoCoreError

    return reason(error) if isinstance(error, BotoCoreError) else ""


def unavailability(uri: str) -> str:
    """Why what begins with `uri` cannot be listed now; "" when it can. Keys need be good for no more than that."""
    error = _error_now(uri, attempts=2)
    return reason(error) if error else ""


def unavailable(uri: str, reason: str) -> ObjectStoreUnavailable:
    """The error for a store that cannot be used at `uri`."""
    return ObjectStoreUnavailable(f"{SCHEME}{locate(uri).bucket}", endpoint(), reason)


def service(uri: str) -> waiting.Service:
    """The store at `uri` as one that may go silent. A refusal is an answer, and no keys are not its fault."""
    from botocore.exceptions import ConnectionError, HTTPClientError

    def silence() -> str:
        error = _error_now(uri, attempts=1)
        return reason(error) if isinstance(error, ConnectionError | HTTPClientError) else ""

    return waiting.Service(
        name=f"the object store at {endpoint() or 'AWS'}",
        unavailability=silence,
        error=lambda reason: unavailable(uri, reason),
    )


def _error_now(uri: str, *, attempts: int) -> Exception | None:
    """What boto3 raises now for what begins with `uri`; None when it can be listed."""
    from botocore.exceptions import BotoCoreError, ClientError

    error: Exception | None = None
    try:
        bucket, key = locate(uri)
        probe = _client(endpoint(), seconds=waiting.PROBE_SECONDS, attempts=attempts)
        probe.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    except (ClientError, BotoCoreError) as err:
        error = err
    return error


def reason(error: Exception) -> str:
    """What an error of boto3 says: the store's answer, that there was none, or that no keys are to be found."""
    if not code(error):
        return str(error)
    return REASONS.get(code(error), f"it says {error}")


def code(error: Exception) -> str:
    """The store's code for an error of boto3, "" when it has not answered."""
    answer = getattr(error, "response", None) or {}  # None in botocore's errors of a time-out or a broken connection
    return str(answer.get("Error", {}).get("Code", ""))


def client() -> Any:
    """boto3's client of the store. ObjectStoreUnavailable for an endpoint that is no URL."""
    # All attempts, and then the questions of _error_now(), end within the limit.
    return _client(endpoint(), seconds=waiting.limit_seconds() / (ATTEMPTS + 1), attempts=ATTEMPTS)


@cache
def _client(endpoint: str, *, seconds: float, attempts: int) -> Any:
    """`endpoint` is "" for AWS's own; `seconds` are for one answer, in each attempt."""
    import boto3  # half a second that only a lake at s3:// pays
    from botocore.config import Config

    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise ObjectStoreUnavailable(SCHEME, endpoint, "an endpoint is a URL, http://<host>:<port> or https://<host>")

    settings = Config(
        connect_timeout=min(CONNECT_SECONDS, seconds),
        read_timeout=seconds,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        # Stores other than AWS's own know neither names of hosts by bucket nor the newest checksums.
        s3={"addressing_style": "path" if endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = boto3.Session()  # boto3's default one keeps the keys that it found first
    return session.client("s3", endpoint_url=endpoint or None, region_name=_region() or None, config=settings)


def endpoint() -> str:
    """Where the store answers; "" for AWS's own."""
    return next((url for name in ENDPOINTS if (url := os.environ.get(name, ""))), "")


def for_deltalake() -> dict[str, str]:
    """deltalake's storage options; it takes keys from the environment itself."""
    half = f"{max(1, waiting.limit_seconds() // 2)}s"  # no attempt begins after it, and none takes longer
    options = {"connect_timeout": f"{CONNECT_SECONDS}s", "timeout": half, "retry_timeout": half}
    options |= {"max_retries": str(ATTEMPTS)}
    if endpoint():
        options |= {"aws_endpoint": endpoint(), "aws_allow_http": "true"}
    return options | ({"aws_region": _region()} if _region() else {})


def for_spark() -> dict[str, str]:
    """Spark's settings for s3a://, without keys."""
    settings: Mapping[str, str] = {
        "aws.credentials.provider": "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
        "attempts.maximum": str(ATTEMPTS),
        "retry.limit": str(ATTEMPTS),
        "connection.establish.timeout": "15s",  # the least that Hadoop takes
        "connection.timeout": "20s",  # without a byte; the whole wait is ended by spark.session()
        **({"endpoint.region": _region()} if _region() else {}),
        **({"endpoint": endpoint(), "path.style.access": "true"} if endpoint() else {}),
    }
    return {f"spark.hadoop.fs.s3a.{name}": value for name, value in settings.items()}


def _region() -> str:
    """The region that is set; stores other than AWS's own take any, and each reader must name the same."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
    return region or ("us-east-1" if endpoint() else "")
