"""Bring the database to this MLflow's schema, then become its server, with the options that were given.

Where the database is and as whom to go there, libpq's own variables tell (PGHOST, PGDATABASE, PGUSER, PGPASSWORD): so
no password is on a command line or has to be quoted for a URL.
"""

import os
import sys

import psycopg
from mlflow.cli import cli

DATABASE = "postgresql+psycopg://"
ONE_AT_A_TIME = 3_172_026  # the number of an advisory lock, any that nothing else in this database takes


def migrate() -> None:
    """Also an empty database, and also while another server starts: it then waits for that one's migration."""
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [ONE_AT_A_TIME])
        cli(["db", "upgrade", DATABASE], standalone_mode=False)


if __name__ == "__main__":
    migrate()
    os.execvp("mlflow", ["mlflow", "server", "--backend-store-uri", DATABASE, *sys.argv[1:]])
