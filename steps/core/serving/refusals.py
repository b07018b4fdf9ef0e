"""Why a request is not answered with predictions: a status, a kind to count it by, and MLflow's JSON of an error."""

from typing import Literal

import orjson

type Kind = Literal["invalid", "too large", "type", "timeout", "busy", "internal"]

ERROR_CODES: dict[Kind, str] = {  # MLflow's names, in the JSON of an error
    "invalid": "INVALID_PARAMETER_VALUE",
    "too large": "REQUEST_LIMIT_EXCEEDED",
    "type": "INVALID_PARAMETER_VALUE",
    "timeout": "DEADLINE_EXCEEDED",
    "busy": "TEMPORARILY_UNAVAILABLE",
    "internal": "INTERNAL_ERROR",
}
LONGEST = 2000  # characters of a message, which may quote what the client sent


class Refused(Exception):
    """A request that gets `status` and no predictions. `message` says what was given and what was expected."""

    def __init__(self, status: int, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind: Kind = kind

    @property
    def body(self) -> bytes:
        """The answer's body, as MLflow writes errors."""
        return error_body(ERROR_CODES[self.kind], str(self))


def error_body(code: str, message: str) -> bytes:
    """The JSON of an error, as MLflow's servers write it."""
    shown = message if len(message) <= LONGEST else f"{message[:LONGEST]}..."
    # A client's text may have halves of surrogate pairs, which UTF-8 does not.
    return orjson.dumps({"error_code": code, "message": shown.encode("utf-8", "replace").decode()})


def invalid(message: str) -> Refused:
    """What the client sent cannot be read or scored."""
    return Refused(400, "invalid", message)
