"""Exit with 0 when the Connect server answers a query in time, which takes an executor: an open port proves nothing.

usage: health.py <port> <seconds>
"""

import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

FAREWELL_SECONDS = 5


def main(port: int, seconds: float) -> int:
    socket.create_connection(("localhost", port), timeout=FAREWELL_SECONDS).close()
    sessions: list[Any] = []
    answered = within(seconds, lambda: count(port, sessions))
    if not answered:
        print(f"no query was answered within {seconds:g} s", file=sys.stderr)
        threading.excepthook = lambda _: None  # what its thread says of the query's end is no news
    # With its session ends a query that nobody waits for any more.
    within(FAREWELL_SECONDS, lambda: [session.stop() for session in sessions])
    return 0 if answered else 1


def count(port: int, sessions: list[Any]) -> None:
    """Let the server at `port` count one row, in a session that is added to `sessions`. Raises what the client does."""
    from pyspark.sql import SparkSession  # a second of work, in vain before the server listens

    token = os.environ.get("SPARK_CONNECT_AUTHENTICATE_TOKEN")
    session = SparkSession.builder.remote(
        f"sc://localhost:{port}/" + (f";token={token}" if token else "")
    ).getOrCreate()
    session.client.set_retry_policies([])
    sessions.append(session)
    assert session.range(1).count() == 1


def within(seconds: float, work: Callable[[], object]) -> bool:
    """Whether `work` was done by then."""
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(seconds)
    return done.is_set()


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), float(sys.argv[2])))  # without waiting for a thread that is not done
