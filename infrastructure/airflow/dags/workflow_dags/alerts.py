"""Who hears of a task that failed, and of a run that is late: the receiver at ALERT_WEBHOOK_URL, by one JSON message.

The address is a secret of the environment: it is in no log.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

import requests

URL = "ALERT_WEBHOOK_URL"  # environment variable, as for the entry point monitor
SCHEMA_VERSION = 1
ANSWER_SECONDS = 10.0

log = logging.getLogger(__name__)


def task_failed(context: Mapping[str, Any]) -> None:
    """Of a task whose last try failed: the step's own message."""
    task = context["ti"]
    message = str(context.get("exception") or "it was killed, or its worker is gone: its log may tell more")
    _tell("failed", dag=task.dag_id, run=task.run_id, task=task.task_id, message=message)


def run_late(context: Mapping[str, Any]) -> None:
    """Of a run that is not finished at its deadline."""
    run = context["dag_run"]
    message = f"not finished at its deadline, {context['deadline']['deadline_time']}"
    _tell("late", dag=run["dag_id"], run=run["dag_run_id"], task="", message=message)


def _tell(event: str, *, dag: str, run: str, task: str, message: str) -> None:
    text = f"{dag}{'.' if task else ''}{task} {event} in run {run}: {message}"
    log.error("%s", text)
    if not (url := os.environ.get(URL)):
        return
    body = {"schema_version": SCHEMA_VERSION, "text": text, "event": event}
    body |= {"dag": dag, "run_id": run, "task": task, "message": message}
    try:
        requests.post(url, json=body, timeout=ANSWER_SECONDS, allow_redirects=False).raise_for_status()
    except requests.RequestException as err:
        log.error("the webhook of %s was not told: %s", URL, type(err).__name__)  # the error holds the address
