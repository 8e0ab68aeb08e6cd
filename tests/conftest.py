"""Settings of Airflow for all tests, and the fixtures that run DAGs.

The environment must be set before the first ``import airflow``, which reads airflow.cfg and makes AIRFLOW_HOME.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

# pytest-xdist's workers inherit the environment, and must not share a database.
if "AIRFLOW_HOME" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow_test_home_")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"  # True would read the monorepo's own test configuration
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = os.devnull
os.environ["AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS"] = "False"
os.environ["AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY"] = "True"  # silences the only warning of 2.11's own import
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
os.environ["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] = "False"
# all servers of the tests are on this machine
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

import pytest
from hypothesis import HealthCheck, settings

# The same examples each time, however slow the machine is: what was there before must not fail a landing. To look for
# new ones: make test PYTEST_ARGS=--hypothesis-profile=explore
_ALWAYS: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **_ALWAYS)
settings.register_profile("explore", max_examples=1000, **_ALWAYS)
settings.load_profile("same")

pytest_plugins = ["tests.support.fixtures", "tests.faults.summary", "airflow_provider_posthog.emulator.pytest_plugin"]


@pytest.fixture(autouse=True)
def nothing_is_known_of_bytes() -> None:
    """The emulator is one project for all tests, and each finds its budget of bytes as after a reset."""
    from airflow_provider_posthog.api import byte_budget

    byte_budget.forget()


@pytest.fixture(autouse=True)
def nothing_is_in_memory() -> None:
    """fsspec has one file system in memory, which goes through all its files for each that it opens."""
    memory = sys.modules.get("fsspec.implementations.memory")
    if memory is not None:
        memory.MemoryFileSystem.store.clear()
        memory.MemoryFileSystem.pseudo_dirs[:] = [""]


#: How patient the product is in seconds, where no argument says so. Servers on this machine need a fifth of it.
PATIENCE: dict[str, Any] = {
    "api.refresh._FIRST_WAIT": 0.2,
    "erasure.delete._WAIT": 0.1,
    "erasure.properties._WAITS": (0.1, 0.2, 0.4, 1.0, 2.0),
    "api.jobs.LOST_WAITS": (0.1, 0.2, 0.4, 0.8, 1.6),
}


@pytest.fixture(scope="session", autouse=True)
def patience() -> None:
    """Wait less: only the patience changes, not the code. And draw low: back-offs are jittered from zero."""
    from airflow_provider_posthog.api import exchange

    exchange.random = SimpleNamespace(random=lambda: 0.01)  # type: ignore[attr-defined]
    for name, value in PATIENCE.items():
        module, _, constant = f"airflow_provider_posthog.{name}".rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, constant), name
        setattr(found, constant, value)


#: The files that take longest, a quarter of a minute or more on two cores, in that order.
LONGEST = (
    "tests/faults/test_tasks.py",
    "tests/erasure/test_generations.py",
    "tests/erasure/test_traps.py",
    "tests/transfers/test_kept_rows.py",
    "tests/erasure/test_adversary.py",
    "tests/extract/test_reader.py",
    "tests/extract/test_reader_faults.py",
    "tests/operators/test_export_life.py",
    "tests/sensors/test_persons.py",
    "tests/operators/test_refresh_life.py",
    "tests/transfers/test_deferring.py",
    "tests/faults/test_kills.py",
    "tests/operators/test_batch_exports.py",
    "tests/sensors/test_insights.py",
    "tests/transfers/test_query_kills.py",
    "tests/transfers/test_retention.py",
    "tests/sensors/test_exports.py",
    "tests/operators/test_queries.py",
    "tests/erasure/test_delete.py",
    "tests/transfers/test_killed_loads.py",
    "tests/operators/test_warehouse.py",
    "tests/operators/test_superseded.py",
    "tests/airflow/test_example_flow.py",
    "tests/transfers/test_posthog_to_sql.py",
    "tests/extract/test_cells_on_clickhouse.py",
    "tests/triggers/test_poller.py",
    "tests/triggers/test_events.py",
    "tests/operators/test_persons.py",
    "tests/erasure/test_looks.py",
    "tests/operators/test_refresh.py",
    "tests/transfers/test_sql_replacing.py",
    "tests/fuzz/test_malformed_answers.py",
    "tests/transfers/test_query_to_object_storage.py",
    "tests/operators/test_cohort_fill.py",
    "tests/sensors/test_base.py",
    "tests/transfers/test_file_download.py",
    "tests/defects/test_defects.py",
    "tests/operators/test_looking_again.py",
    "tests/erasure/test_tables.py",
    "tests/airflow/test_other_examples.py",
    "tests/triggers/test_jobs.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no process has one left when the others are done; and with shorter ones
    between them, up to two thirds of those: most of the long ones wait, and the cores would have little to do."""
    files = dict.fromkeys(item.nodeid.partition("::")[0] for item in items)
    longest = [name for name in LONGEST if name in files]
    others = iter([name for name in files if name not in longest])
    between = 2 * (len(files) - len(longest)) // (3 * max(1, len(longest)))
    order = [name for first in longest for name in (first, *itertools.islice(others, between))]
    places = {name: place for place, name in enumerate([*order, *others])}
    items.sort(key=lambda item: places[item.nodeid.partition("::")[0]])


gc.disable()  # until all tests are there: it would go through them again and again, a third of the collection


def _rest() -> None:
    """Let the garbage collector pass over what is there: all tests and Airflow took it a tenth of the run's CPU."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """All tests are there."""
    _rest()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What a file has imported is there to stay."""
    if nextitem is not None and nextitem.path != item.path:
        _rest()


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Airflow's metadata database: SQLite in AIRFLOW_HOME, made once per session."""
    from airflow.utils import db

    db.initdb()
    with suppress(ImportError):  # 2.11 has none
        import structlog

        if not structlog.is_configured():  # 3.0 would draw all variables of each task that fails, for seconds
            plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


def _share_api_server() -> None:
    """Let the tasks of ``dag.test()`` talk to one API server, as 3.3 does; 3.0 to 3.2 make one per task, slowly."""
    with suppress(ImportError):  # 2.11 has none
        from airflow.sdk.execution_time import supervisor

        if not hasattr(supervisor.in_process_api_server, "cache_info"):
            supervisor.in_process_api_server = functools.lru_cache(maxsize=1)(supervisor.in_process_api_server)


@pytest.fixture
def run_dag(airflow_db: None) -> Callable[..., Any]:
    """Run a DAG that was made inside a test, with ``dag.test()``.

    Since 3.1, ``dag.test()`` looks for the DAG in the metadata database, which it fills from the DAGs folder only, and
    already in 3.0 clearing a task does; so the DAG is put into a bag, and the bag into the database, first.
    """

    def run(dag: Any, **options: Any) -> Any:
        _share_api_server()
        try:
            from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db  # 3.2
        except ImportError:
            try:
                from airflow.models.dagbag import DagBag, sync_bag_to_db  # 3.1
            except ImportError:
                from airflow.models.dagbag import DagBag

                sync_bag_to_db = DagBag.sync_to_db  # 3.0
        try:
            from airflow.dag_processing.bundles.manager import DagBundlesManager
        except ImportError:
            return dag.test(**options)  # 2.11

        DagBundlesManager().sync_bundles_to_db()
        bag = DagBag(dag_folder=os.devnull)
        dag.relative_fileloc = dag.fileloc  # as for a DAG from a file; 3.0 cannot do without
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        return dag.test(**options)

    return run
