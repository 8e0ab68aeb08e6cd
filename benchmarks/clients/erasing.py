"""One task of an erasure: ``python -m benchmarks.clients.erasing TASK FOLDER``.

TASK is ``resolve``, ``delete``, ``verify``, ``seal`` or ``finish``. The connection comes from the environment, whom
to erase from ``identifiers.csv`` in the folder. Where the folder has ``certificates``, a certificate is written there.
What the task returns goes into ``<task>.json``, and ``<task>.begun`` is there once its imports are done; how long it
took, without imports, is printed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

TASK, FOLDER = sys.argv[1], Path(sys.argv[2])
MANY = 10_000_000


def _operator() -> Any:  # noqa: ANN401 - one of five
    from airflow_provider_posthog.operators.erasure import PostHogFinishErasureOperator, PostHogSealErasureOperator
    from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
    from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor

    who = f"file://{FOLDER}/identifiers.csv"
    if TASK == "resolve":
        audit = f"file://{FOLDER}/certificates" if (FOLDER / "certificates").exists() else None
        work_path = f"file://{FOLDER}/work.jsonl"
        return PostHogResolvePersonsOperator(
            task_id=TASK, work_path=work_path, identifiers_path=who, max_persons=MANY, audit_path=audit
        )
    if TASK == "delete":
        chunk = int(os.environ.get("ERASING_CHUNK", "1000"))
        return PostHogDeletePersonsOperator(
            task_id=TASK, persons=_returned("resolve"), max_persons=MANY, chunk_size=chunk
        )
    if TASK == "seal":
        return PostHogSealErasureOperator(
            task_id=TASK,
            request=_returned("delete"),
            proof=_returned("verify"),
            sealed_path=f"file://{FOLDER}/sealed",
        )
    if TASK == "finish":
        return PostHogFinishErasureOperator(
            task_id=TASK, request=_returned("delete"), proof=_returned("verify"), also_remove=[who]
        )
    # Nothing arrives late here, so that nothing need be waited for.
    quick: dict[str, Any] = {"poke_interval": 1.0, "timeout": 3600.0, "failure_grace": 0.0, "quiet_period": 0.0}
    keep: dict[str, Any] = {"keep_work_file": True, "close_certificate": False}
    return PostHogPersonsErasedSensor(
        task_id=TASK, request=_returned("delete"), mode="poke", deferrable=False, **keep, **quick
    )


def _returned(task: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((FOLDER / f"{task}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    operator = _operator()
    (FOLDER / f"{TASK}.begun").touch()
    began = time.perf_counter()
    found = operator.execute({})
    took = time.perf_counter() - began
    # As Airflow's database does: all of it or nothing.
    (FOLDER / f"{TASK}.part").write_text(json.dumps(found), encoding="utf-8")
    (FOLDER / f"{TASK}.part").replace(FOLDER / f"{TASK}.json")
    print(json.dumps({"seconds": took}))
