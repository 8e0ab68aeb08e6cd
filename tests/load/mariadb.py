"""A real MariaDB, where its server is installed: it comes with no wheel (``apt-get install mariadb-server``)."""

from __future__ import annotations

import atexit
import functools
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pymysql
import pytest

from airflow_provider_posthog.load.generic import MYSQL, GenericLoader
from airflow_provider_posthog.load.target import Target
from tests.load.databases import Database
from tests.support.waiting import wait_for

#: Set where the server must be there, as in CI: its tests fail without it, and are skipped, and listed, elsewhere.
REQUIRED = "POSTHOG_TEST_MARIADB"


@functools.cache
def _socket() -> Path:
    """Start the server, once for all tests; return its socket."""
    server, installer = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if server is None or installer is None:
        reason = "MariaDB's server is not installed (apt-get install mariadb-server)"
        if os.environ.get(REQUIRED):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="posthog_maria_"))
    (folder / "tmp").mkdir()
    # A tmpdir of its own: two servers that start at once in one folder delete each other's temporary tables.
    common = [
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--tmpdir={folder / 'tmp'}",
        f"--user={getpass.getuser()}",
    ]
    made = [installer, *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(made, check=True, capture_output=True, timeout=120)
    running = subprocess.Popen(
        [server, *common, f"--socket={folder / 's'}", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def stop() -> None:
        running.terminate()
        running.wait(30)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    wait_for(lambda: _listens(folder / "s"), seconds=60, what="MariaDB")
    return folder / "s"


def _listens(path: Path) -> bool:
    """The server makes its socket a moment before it listens there."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        return connection.connect_ex(str(path)) == 0


class MariaDB(Database):
    """MariaDB.

    :param user: the user; ``root`` may do all.
    """

    def __init__(self, user: str = "root", **options: Any) -> None:
        self.user = user
        self.options = options

    def connect(self) -> Any:
        return _connected(self.user, database="warehouse", charset="utf8mb4", **self.options)

    def loader(self, target: Target) -> GenericLoader:
        return GenericLoader(self.connect(), target, MYSQL, "%s")


def _connected(user: str, **options: Any) -> Any:
    # With TLS, each connection would read all certificates of the machine.
    return pymysql.connect(unix_socket=str(_socket()), user=user, ssl_disabled=True, **options)


@contextmanager
def mariadb_database() -> Iterator[MariaDB]:
    """Give a test an empty database, and remove all that the test made."""
    with closing(
        pymysql.connect(unix_socket=str(_socket()), user="root", autocommit=True, ssl_disabled=True)
    ) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE DATABASE warehouse CHARACTER SET utf8mb4")
        yield MariaDB()
        cursor.execute("DROP DATABASE warehouse")
        cursor.execute("DROP USER IF EXISTS reader")
        cursor.execute("SET GLOBAL default_storage_engine = InnoDB")
