"""Add a user to MLflow, who may write runs; what they make they also own. The password comes by standard input.

usage, in the container of MLflow's server: python -c "$(cat add_user.py)" <name> [<address of the server>]
"""

import os
import sys

from mlflow.server.auth.client import AuthServiceClient

DEFAULT_EXPERIMENT = "0"  # where the steps keep their runs


def main(name: str, address: str = "http://localhost:5000") -> None:
    for part in ("USERNAME", "PASSWORD"):  # MLflow's client takes them from the environment alone
        os.environ[f"MLFLOW_TRACKING_{part}"] = os.environ[f"MLFLOW_AUTH_ADMIN_{part}"]
    client = AuthServiceClient(address)
    client.create_user(name, sys.stdin.read())
    client.grant_user_permission(name, "experiment", DEFAULT_EXPERIMENT, "EDIT")


if __name__ == "__main__":
    main(*sys.argv[1:])
