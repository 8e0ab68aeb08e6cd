"""Classes of data whose methods are shared are as the standard ones."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import field

import pytest

from airflow_provider_posthog.dataclass import dataclass
from tests.support.parsing import callers_at_a_parse


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 2
    secret: str = field(default="s", repr=False)
    note: str = field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class Standard:
    x: int
    y: int = 2
    secret: str = field(default="s", repr=False)
    note: str = field(default="", compare=False)


@dataclass
class Changing:
    x: int = 1


@dataclass(frozen=True)
class Farther(Point):
    z: int = 3


@dataclass(frozen=True)
class Own:
    x: int

    def __repr__(self) -> str:
        return "own"


@dataclass(frozen=True)
class OwnEquality:
    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnEquality)


@dataclasses.dataclass(frozen=True)
class StandardOwnEquality:
    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandardOwnEquality)


def test_what_a_class_says_itself_stays() -> None:
    assert OwnEquality(1) == OwnEquality(2)
    assert hash(OwnEquality(1)) == hash(StandardOwnEquality(1))


def test_they_are_shown_as_the_standard_ones() -> None:
    assert repr(Point(1, note="n")) == repr(Standard(1, note="n")).replace("Standard", "Point")
    assert repr(Farther(1)) == "Farther(x=1, y=2, note='', z=3)"
    assert repr(Own(1)) == "own"


def test_they_are_equal_as_the_standard_ones() -> None:
    assert Point(1) == Point(1, note="another")
    assert Point(1) != Point(1, secret="another")
    assert Point(1) != Standard(1)
    assert Point(1) != Farther(1)
    assert Changing(2) == Changing(2)


def test_they_are_hashed_as_the_standard_ones() -> None:
    assert hash(Point(1)) == hash(Point(1, note="another"))
    assert len({Point(1), Point(1), Point(2)}) == 2
    with pytest.raises(TypeError):
        hash(Changing())


def test_they_are_frozen_copied_replaced_and_pickled_as_the_standard_ones() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Point(1).x = 2  # type: ignore[misc]
    assert dataclasses.replace(Point(1), y=5) == Point(1, 5)
    assert copy.deepcopy(Point(1)) == pickle.loads(pickle.dumps(Point(1))) == Point(1)
    assert dataclasses.asdict(Farther(1)) == {"x": 1, "y": 2, "secret": "s", "note": "", "z": 3}
    assert [each.name for each in dataclasses.fields(Farther)] == ["x", "y", "secret", "note", "z"]


def test_a_parse_of_a_dag_file_makes_none_of_the_standard_ones() -> None:
    assert set(callers_at_a_parse("dataclasses.dataclass")) == {"airflow_provider_posthog.dataclass"}
