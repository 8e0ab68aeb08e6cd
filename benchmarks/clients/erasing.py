"""One task of an erasure: ``python -m benchmarks.clients.erasing resolve|delete|verify FOLDER``.

The connection comes from the environment, whom to erase from ``identifiers.csv`` in the folder. What the task returns
goes into ``<task>.json`` there; how long it took, without imports, is printed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

TASK, FOLDER = sys.argv[1], Path(sys.argv[2])
MANY = 10_000_000


def _operator() -> Any:  # noqa: ANN401 - one of three
    from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
    from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor

    if TASK == "resolve":
        work_path, identifiers = f"file://{FOLDER}/work.jsonl", f"file://{FOLDER}/identifiers.csv"
        return PostHogResolvePersonsOperator(
            task_id=TASK, work_path=work_path, identifiers_path=identifiers, max_persons=MANY
        )
    if TASK == "delete":
        return PostHogDeletePersonsOperator(task_id=TASK, persons=_returned("resolve"), max_persons=MANY)
    # Nothing arrives late here, so that nothing need be waited for.
    quick: dict[str, Any] = {"poke_interval": 1.0, "timeout": 3600.0, "failure_grace": 0.0, "quiet_period": 0.0}
    return PostHogPersonsErasedSensor(
        task_id=TASK, request=_returned("delete"), mode="poke", deferrable=False, keep_work_file=True, **quick
    )


def _returned(task: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((FOLDER / f"{task}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    operator = _operator()
    began = time.perf_counter()
    found = operator.execute({})
    took = time.perf_counter() - began
    (FOLDER / f"{TASK}.json").write_text(json.dumps(found), encoding="utf-8")
    print(json.dumps({"seconds": took}))
