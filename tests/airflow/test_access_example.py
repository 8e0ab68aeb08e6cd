"""The example that hands out a person's data, as Airflow runs it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.erasure.support import Lab
from tests.operators.support import connect, task_states, xcoms


def test_the_folder_of_a_person(
    posthog: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_dag: Callable[..., Any]
) -> None:
    connect(monkeypatch, posthog)
    lab = Lab(posthog, tmp_path)
    (tmp_path / "request.csv").write_text(f"email\n{lab.email}\n")
    monkeypatch.setenv("POSTHOG_EXAMPLE_FILES", f"file://{tmp_path}")
    example = importlib.reload(importlib.import_module("dags_examples.hand_out_person_data"))
    for task in example.dag.tasks:
        task.retries = 0
    run = run_dag(example.dag, run_conf={"ticket": "DSR-7", "requests_path": f"file://{tmp_path}/request.csv"})
    assert task_states(run) == {"resolve": "success", "export": "success", "finish": "success"}
    (folder,) = (tmp_path / "private").glob("access-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["counts"]["profiles"], manifest["counts"]["events"]) == (1, 1)
    assert lab.email in (folder / "index.html").read_text()
    assert not list((tmp_path / "private").glob("*.jsonl")), "the work file"
    assert lab.name not in json.dumps(list(map(str, xcoms(run).values())))
