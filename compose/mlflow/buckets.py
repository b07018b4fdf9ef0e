"""Make the buckets whose names are given, where they are missing."""

import sys

import boto3


def main(names: list[str]) -> None:
    s3 = boto3.client("s3")
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for name in names:
        if name not in there:
            s3.create_bucket(Bucket=name)


if __name__ == "__main__":
    main(sys.argv[1:])
