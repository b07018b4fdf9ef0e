"""Make what Airflow's services start from, each time they are started, and leave what is there.

Its secrets, as files in AIRFLOW_HOME/secrets; its database, beside MLflow's on the same PostgreSQL, with its tables;
the pool in which one step runs at a time; the admin, with the password that AIRFLOW_ADMIN_PASSWORD has now. PostgreSQL
is that of PGHOST, PGUSER, PGPASSWORD and PGDATABASE.
"""

import base64
import os
import secrets
from pathlib import Path

import psycopg2
from sqlalchemy.engine import URL

DATABASE = "airflow"
POOL = "workflow_writer"


def main() -> None:
    make_secrets(Path(os.environ["AIRFLOW_HOME"], "secrets"))
    make_database()
    make_tables()
    make_pool()
    make_admin(os.environ["AIRFLOW_ADMIN_USERNAME"], os.environ["AIRFLOW_ADMIN_PASSWORD"])


def make_secrets(folder: Path) -> None:
    """Random keys, once; the address of the database, each time, as its password may have changed."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("jwt_secret", "secret_key", "fernet_key"):
        if not (folder / name).exists():
            write(folder / name, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    address = URL.create(
        "postgresql+psycopg2",
        username=os.environ["PGUSER"],
        password=os.environ["PGPASSWORD"],
        host=os.environ["PGHOST"],
        port=int(os.environ.get("PGPORT", "5432")),
        database=DATABASE,
    )
    write(folder / "sql_alchemy_conn", address.render_as_string(hide_password=False))


def write(path: Path, text: str) -> None:
    """A file that its user alone may read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def make_database() -> None:
    """Airflow's own, beside MLflow's, if it is not there."""
    connection = psycopg2.connect("")  # by PGHOST and the like
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("select 1 from pg_database where datname = %s", (DATABASE,))
        if not cursor.fetchone():
            cursor.execute(f"create database {DATABASE}")
    connection.close()


def make_tables() -> None:
    """Not by `airflow db migrate`: Airflow would be imported twice, which takes longer than all else."""
    from airflow.utils.db import upgradedb  # when the secrets are there: Airflow reads them when it is imported

    upgradedb()


def make_pool() -> None:
    """The pool of one slot in which the DAGs' steps wait for each other."""
    from airflow.models.pool import Pool

    Pool.create_or_update_pool(POOL, slots=1, description="one step of the workflow at a time", include_deferred=False)


def make_admin(name: str, password: str) -> None:
    """Not by `airflow users create`: a command line shows the password to every process."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        manager = builder.sm
        if user := manager.find_user(username=name):
            manager.reset_password(user.id, password)
        else:
            manager.add_user(name, "", "", f"{name}@localhost", manager.find_role("Admin"), password=password)


if __name__ == "__main__":
    main()
