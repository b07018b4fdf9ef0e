"""Ask a model's server for predictions, and fail unless the expected version makes them.

    python -m automation.smoke_test --url=http://localhost:5002 --model=models:/iris_xgboost_classifier/3

Reads   /health; the example of /openapi.json, which it posts to /invocations
Writes  one line; exit code 0 when the server answered REQUESTS times in a row by that version within --seconds
Fails   with exit code 1 and what was wrong at the last try
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

MODEL_URI = "X-Model-Uri"  # header: the version that answered
REQUESTS = 20  # in a row: behind one address there may be several servers, of which some are still the old ones
ANSWER_SECONDS = 10  # for one request
PAUSE_SECONDS = 1


class SmokeTestFailed(Exception):
    """The server did not do what it should within the time."""


class NotYet(Exception):
    """One try failed; a later one may not."""


def check(url: str, model: str, *, seconds: float) -> None:
    """Return once the server at `url` answers by `model`, models:/<name>/<version>. SmokeTestFailed after `seconds`."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise SmokeTestFailed(f"{url!r} is no address of a server: http://... or https://... is expected")
    deadline = time.monotonic() + seconds
    while True:
        try:
            return _try_once(url.rstrip("/"), model)
        except NotYet as reason:
            if time.monotonic() + PAUSE_SECONDS > deadline:
                raise SmokeTestFailed(f"{url} was not as expected within {seconds:g} s: {reason}") from reason
        time.sleep(PAUSE_SECONDS)


def _try_once(url: str, model: str) -> None:
    health, _ = _ask(f"{url}/health")
    if health.get("status") != "ok" or health.get("model") != model:
        raise NotYet(f"/health says {json.dumps(health)}, expected status ok and model {model}")
    example = _example(_ask(f"{url}/openapi.json")[0])
    for _ in range(REQUESTS):
        answer, answered_by = _ask(f"{url}/invocations", body=example)
        if answered_by != model:
            raise NotYet(f"/invocations answered by {answered_by}, expected {model}")
        predictions = answer.get("predictions")
        if not isinstance(predictions, list) or len(predictions) != _rows_of(example):
            raise NotYet(f"/invocations answered {json.dumps(answer)[:200]} to {_rows_of(example)} rows")


def _example(description: Any) -> dict[str, Any]:
    """The body of a request that the server's OpenAPI description shows."""
    try:
        content = description["paths"]["/invocations"]["post"]["requestBody"]["content"]
        example: dict[str, Any] = content["application/json"]["example"]
        _rows_of(example)
    except (KeyError, TypeError) as err:
        raise NotYet(f"/openapi.json has no example of rows for /invocations: {err!r}") from err
    return example


def _rows_of(example: dict[str, Any]) -> int:
    return len(example["dataframe_split"]["data"] if "dataframe_split" in example else example["dataframe_records"])


def _ask(url: str, body: dict[str, Any] | None = None) -> tuple[dict[str, Any], str | None]:
    """The JSON object that a GET, or with `body` a POST, is answered by, and the version that answered."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    path = urlsplit(url).path
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            answer = json.load(response)
            answered_by = response.headers.get(MODEL_URI)
    except urllib.error.HTTPError as err:
        raise NotYet(f"{path} answered {err.code}: {err.read(200).decode(errors='replace')}") from err
    except (OSError, ValueError) as err:
        raise NotYet(f"{path}: {err}") from err
    if not isinstance(answer, dict):
        raise NotYet(f"{path} answered no JSON object")
    return answer, answered_by


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True, help="models:/<name>/<version>")
    parser.add_argument("--seconds", type=float, default=120)
    asked = parser.parse_args(argv)
    try:
        check(asked.url, asked.model, seconds=asked.seconds)
    except SmokeTestFailed as err:
        sys.exit(f"SmokeTestFailed: {err}")
    print(f"smoke test: {asked.url} answers by {asked.model}")


if __name__ == "__main__":
    main()
