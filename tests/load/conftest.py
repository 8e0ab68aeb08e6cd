"""Databases for the loaders: a real PostgreSQL, DuckDB and SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.load.databases import Database, DuckDB, Postgres, SQLite, Standard, postgres_database


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with postgres_database() as database:
        yield database


@pytest.fixture
def duck(tmp_path: Path) -> DuckDB:
    return DuckDB(tmp_path / "warehouse.duckdb", held=True)


@pytest.fixture
def sqlite(tmp_path: Path) -> SQLite:
    return SQLite(tmp_path / "warehouse.sqlite")


@pytest.fixture(params=["psycopg2", "psycopg", "duckdb", "sqlite"])
def known(request: pytest.FixtureRequest) -> Database:
    """Each database whose tables can be looked at."""
    return _database(request)


@pytest.fixture(params=["psycopg2", "psycopg", "duckdb", "sqlite", "standard"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each database in turn: PostgreSQL with both of its drivers, and as one of which nobody knows what it is."""
    return _database(request)


def _database(request: pytest.FixtureRequest) -> Database:
    if request.param == "standard":
        return Standard(request.getfixturevalue("postgres"))
    if request.param in ("psycopg2", "psycopg"):
        found: Postgres = request.getfixturevalue("postgres")
        return found.through(request.param)
    return request.getfixturevalue({"duckdb": "duck", "sqlite": "sqlite"}[request.param])
