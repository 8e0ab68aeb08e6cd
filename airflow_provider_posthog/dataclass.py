"""``dataclass`` for the modules that a DAG file imports, to be used as that of :mod:`dataclasses`.

The standard one writes and compiles six functions for each class. Airflow imports these modules in a fresh process for
each parse of a DAG file, and a sixth of that time went into functions that compare and show objects. Here they are the
same few functions for all classes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:  # noqa: ANN401 - a class, or what makes one
        """Make a class of data.

        :param cls: the class.
        :param options: as :func:`dataclasses.dataclass` takes them.
        """
        if cls is None:
            return lambda given: dataclass(given, **options)
        if options.keys() - {"frozen"}:
            return dataclasses.dataclass(cls, **options)
        own = {name for name in ("__eq__", "__hash__", "__repr__") if vars(cls).get(name) is not None}
        made = dataclasses.dataclass(cls, eq=False, repr=False, **options)
        shared = {"__eq__": _equals, "__hash__": _hash if options.get("frozen") else None, "__repr__": _shown}
        for name in shared.keys() - own:
            setattr(made, name, shared[name])
        return made


def _equals(self: Any, other: Any) -> bool:  # noqa: ANN401 - objects of data
    if other.__class__ is not self.__class__:
        return NotImplemented  # type: ignore[no-any-return]
    compared = [field.name for field in dataclasses.fields(self) if field.compare]
    return all(getattr(self, name) == getattr(other, name) for name in compared)


def _hash(self: Any) -> int:  # noqa: ANN401 - an object of data
    hashed = [field for field in dataclasses.fields(self) if (field.compare if field.hash is None else field.hash)]
    return hash(tuple(getattr(self, field.name) for field in hashed))


def _shown(self: Any) -> str:  # noqa: ANN401 - an object of data
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"
