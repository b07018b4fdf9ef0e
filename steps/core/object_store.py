"""The object store of a lake at s3://: how each reader and writer is told of it, and whether it answers.

Keys come from where AWS's own tools take them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN), a
profile, or the role of the machine. They are in no setting here: what Spark is told stands on its command line.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from steps.core.errors import ObjectStoreUnavailable

SCHEME = "s3://"
ENDPOINTS = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # environment variables
ANSWER_SECONDS = 5
ATTEMPTS = 3  # a store that restarts is waited for, backing off; one that is gone is told within a minute
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
    bucket: str
    key: str


class Object(NamedTuple):
    """`modified` is in seconds since 1970; `etag` changes with the content."""

    uri: str
    size_bytes: int
    modified: float
    etag: str


def locate(uri: str) -> Location:
    return Location(*(uri.removeprefix(SCHEME).partition("/")[::2]))


def check(uri: str) -> None:
    """ObjectStoreUnavailable, saying why, when the store cannot be used at `uri`; asked once for a bucket."""
    bucket = locate(uri).bucket
    if bucket not in _usable:
        if reason := why_not(uri):
            raise ObjectStoreUnavailable(f"{SCHEME}{bucket}", endpoint(), reason)
        _usable[bucket] = uri


def what_is_wrong(error: Exception) -> ObjectStoreUnavailable | None:
    """What `error` says of the store in Spark's words, or what check() would say now of buckets that it has passed."""
    said = next((REASONS[code] for code in REASONS if code in str(error)), "")
    for bucket, uri in _usable.items():
        if reason := said or why_not(uri):
            return ObjectStoreUnavailable(f"{SCHEME}{bucket}", endpoint(), reason)
    return None


def why_not(uri: str) -> str:
    """Why what begins with `uri` cannot be listed now; "" when it can. Keys need be good for no more than that."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        bucket, key = locate(uri)
        client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    except (ClientError, BotoCoreError) as err:
        return reason(err)
    return ""


def reason(error: Exception) -> str:
    """What an error of boto3 says: the store's answer, that there was none, or that no keys are to be found."""
    if not code(error):
        return str(error)
    return REASONS.get(code(error), f"it says {error}")


def code(error: Exception) -> str:
    """The store's code for an error of boto3, "" when it has not answered."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


@cache
def client() -> Any:
    """boto3's client of the store. ObjectStoreUnavailable for an endpoint that is no URL."""
    import boto3  # half a second that only a lake at s3:// pays
    from botocore.config import Config

    if endpoint() and not endpoint().startswith(("http://", "https://")):
        raise ObjectStoreUnavailable(SCHEME, endpoint(), "an endpoint is a URL, http://<host>:<port> or https://<host>")

    settings = Config(
        connect_timeout=ANSWER_SECONDS,
        read_timeout=4 * ANSWER_SECONDS,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        # Stores other than AWS's own know neither names of hosts by bucket nor the newest checksums.
        s3={"addressing_style": "path" if endpoint() else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", endpoint_url=endpoint() or None, region_name=_region() or None, config=settings)


def objects(prefix: str) -> Iterator[Object]:
    """All whose URIs begin with `prefix`."""
    bucket, key = locate(prefix)
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
        for each in page.get("Contents", []):
            uri = f"{SCHEME}{bucket}/{each['Key']}"
            yield Object(uri, each["Size"], each["LastModified"].timestamp(), each["ETag"])


def read(uri: str, size_bytes: int, *, start: int = 0) -> bytes:
    """Bytes of an object, which is not empty, from `start` on."""
    bucket, key = locate(uri)
    answer = client().get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + size_bytes - 1}")
    return bytes(answer["Body"].read())


def folders(uri: str) -> list[str]:
    """The names of the folders right below `uri`."""
    bucket, key = locate(uri)
    prefix = f"{key}/" if key else ""
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    return [each["Prefix"][len(prefix) : -1] for page in pages for each in page.get("CommonPrefixes", [])]


def endpoint() -> str:
    """Where the store answers; "" for AWS's own."""
    return next((url for name in ENDPOINTS if (url := os.environ.get(name, ""))), "")


def for_deltalake() -> dict[str, str]:
    """deltalake's storage options; it takes keys from the environment itself."""
    options = {"connect_timeout": f"{ANSWER_SECONDS}s", "max_retries": str(ATTEMPTS), "retry_timeout": "30s"}
    if endpoint():
        options |= {"aws_endpoint": endpoint(), "aws_allow_http": "true"}
    return options | ({"aws_region": _region()} if _region() else {})


def for_spark() -> dict[str, str]:
    """Spark's settings for s3a://, without keys."""
    settings: Mapping[str, str] = {
        "aws.credentials.provider": "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
        "attempts.maximum": str(ATTEMPTS),
        "retry.limit": str(ATTEMPTS),
        "connection.establish.timeout": f"{ANSWER_SECONDS}s",
        **({"endpoint.region": _region()} if _region() else {}),
        **({"endpoint": endpoint(), "path.style.access": "true"} if endpoint() else {}),
    }
    return {f"spark.hadoop.fs.s3a.{name}": value for name, value in settings.items()}


def _region() -> str:
    """The region that is set; stores other than AWS's own take any, and each reader must name the same."""
    given = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
    return given or ("us-east-1" if endpoint() else "")
