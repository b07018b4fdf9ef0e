"""Bring the database to this MLflow's schema, then become its server, with the options that were given.

Where the database is and as whom to go there, libpq's own variables tell (PGHOST, PGDATABASE, PGUSER, PGPASSWORD): so
no password is on a command line or has to be quoted for a URL.

The server asks for a user when a password for the first admin is set, and from then on for as long as the database
has users: a setting that is missing one day does not open what was closed.
"""

import os
import secrets
import sys
from pathlib import Path

import psycopg
from mlflow.cli import cli

DATABASE = "postgresql+psycopg://"
ONE_AT_A_TIME = 3_172_026  # the number of an advisory lock, any that nothing else in this database takes
AUTH = {
    "MLFLOW_AUTH_CONFIG_PATH": str(Path(__file__).with_name("auth.ini")),
    # Signs the form by which users are added, and has to be the same in all worker processes of one server.
    "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
}


def migrate() -> None:
    """Also an empty database, and also while another server starts: it then waits for that one's migration."""
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [ONE_AT_A_TIME])
        cli(["db", "upgrade", DATABASE], standalone_mode=False)


def asks_for_users() -> bool:
    """Whether the server is to ask who is there: an administrator's password is given, or a user is known already."""
    if os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD"):
        return True
    with psycopg.connect() as connection:
        has_table = connection.execute("select to_regclass('users') is not null").fetchone() == (True,)
        return has_table and connection.execute("select exists (select from users)").fetchone() == (True,)


if __name__ == "__main__":
    migrate()
    auth = []
    if asks_for_users():
        auth = ["--app-name", "basic-auth"]
        os.environ.update(AUTH)
        print("MLflow asks for a user", flush=True)
    else:
        print("MLflow is open to all who reach it: MLFLOW_AUTH_ADMIN_PASSWORD is not set", flush=True)
    os.execvp("mlflow", ["mlflow", "server", "--backend-store-uri", DATABASE, *auth, *sys.argv[1:]])
