"""What a parse of a DAG file does, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CODE = """
import importlib, json, sys
import airflow_provider_posthog.compat
from benchmarks.parse_cost import our_modules
module, name = sys.argv[1].rsplit(".", 1)
module = importlib.import_module(module)
function, callers = getattr(module, name), []
def noted(*args, **kwargs):
    callers.append(sys._getframe(1).f_globals["__name__"])
    return function(*args, **kwargs)
setattr(module, name, noted)
for each in our_modules():
    importlib.import_module(each)
print(json.dumps([each for each in callers if each.startswith("airflow_provider_posthog.")]))
"""


def callers_at_a_parse(function: str) -> list[str]:
    """Return which of our modules call a function while all that DAG authors import is imported.

    :param function: its dotted name; it is looked up in its module by those who call it.
    """
    command = [sys.executable, "-c", _CODE, function]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    callers: list[str] = json.loads(answer.stdout.splitlines()[-1])
    return callers
