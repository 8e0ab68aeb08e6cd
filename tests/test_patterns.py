"""Regular expressions that are compiled at their first use."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from airflow_provider_posthog.patterns import pattern
from tests.support.parsing import callers_at_a_parse


def test_it_does_what_a_compiled_one_does() -> None:
    word = pattern(r"(?P<first>[a-z])[a-z]*", re.IGNORECASE)
    match = word.fullmatch("Word")
    assert match is not None
    assert match["first"] == "W"
    assert word.sub("x", "two words") == "x x"
    assert (word.pattern, word.groupindex) == (r"(?P<first>[a-z])[a-z]*", {"first": 1})
    assert word.flags & re.IGNORECASE
    assert pattern(rb"\d+").findall(b"1 22") == [b"1", b"22"]


def test_a_copy_does_so_too() -> None:
    for same in (copy.deepcopy(pattern("a+")), pickle.loads(pickle.dumps(pattern("a+")))):
        assert same.fullmatch("aaa")


def test_a_wrong_one_is_told_at_its_first_use() -> None:
    with pytest.raises(re.error):
        pattern("(").match("")


def test_a_parse_of_a_dag_file_compiles_nothing_of_ours() -> None:
    assert callers_at_a_parse("re.compile") == []
