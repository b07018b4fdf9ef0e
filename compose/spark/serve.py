"""The Connect server, for as long as Spark's master knows its application.

usage: serve.py http://<the master's own page>

A master that was started again knows no application of the one before it, but the driver goes on waiting for executors
from it: the server accepts queries and answers none, for ever. So this program ends when the master says that it does
not know the application any more, and Docker starts it again. A master that does not answer has said nothing.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request

TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"
SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"
LOOK_SECONDS = 5
FAREWELL_SECONDS = 30


def main(master: str) -> int:
    if not os.environ.get(TOKEN):
        os.environ.pop(TOKEN, None)  # Spark would ask for an empty one
    name = f"tabular-workflow-{secrets.token_hex(4)}"  # new at each start: the master may still list the one before
    server = subprocess.Popen(["spark-submit", "--name", name, "--class", SERVER])
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    registered = False
    while not _ended(server, seconds=LOOK_SECONDS):
        names = _applications(master)
        if registered and names is not None and name not in names:
            print(f"{master} does not know the application {name} any more: the server ends", file=sys.stderr)
            server.terminate()
            if not _ended(server, seconds=FAREWELL_SECONDS):
                server.kill()
            return 1
        registered = registered or name in (names or ())
    return server.returncode


def _applications(master: str) -> set[str] | None:
    """The names of those that the master has registered, None when it does not answer."""
    try:
        with urllib.request.urlopen(f"{master}/json/", timeout=LOOK_SECONDS) as answer:
            return {application["name"] for application in json.load(answer)["activeapps"]}
    except (OSError, ValueError, KeyError):
        return None


def _ended(process: subprocess.Popen[bytes], *, seconds: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
