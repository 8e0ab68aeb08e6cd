"""What PostHog takes of a query's condition into the table that its sessions are made of.

That table is sorted by the time in the session's id. PostHog looks through WHERE for comparisons of the session's start
or end with times, and takes them along: as conditions on the id's time, three days wider. What it cannot look through
is true there, and behind NOT that is false. So a session is only found where its id's time is near its start, and some
conditions with NOT find none.
"""

from __future__ import annotations

from airflow_provider_posthog.emulator.hogql.ast import Call, Compare, Constant, Field, Logic, Node, Ref, Sequence
from airflow_provider_posthog.emulator.hogql.ast import Column as Kind
from airflow_provider_posthog.emulator.hogql.values import words

_BUFFER_DAYS = 3
_TIMES = frozenset({"$start_timestamp", "$end_timestamp"})
_FLIPPED = {
    "equals": "equals",
    "less": "greater",
    "lessOrEquals": "greaterOrEquals",
    "greater": "less",
    "greaterOrEquals": "lessOrEquals",
}
_NOW = frozenset({"today", "now", "now64", "yesterday"})
# a constant, or a session's time, in these is one, too
_OF_TIME = words(
    "parseDateTime64BestEffortOrNull toDateTime toTimeZone assumeNotNull toStartOfDay toStartOfWeek toStartOfMonth "
    "toStartOfQuarter toStartOfYear"
)
_OF_CONSTANT = _OF_TIME | frozenset(
    f"toInterval{unit}" for unit in ("Year", "Month", "Week", "Day", "Hour", "Minute", "Second")
)
_SUMS = frozenset({"plus", "minus", "add"})
# what becomes of a condition that PostHog cannot take along: it goes, with whatever it is a part of but AND
_LOST = Constant("lost")


def looked_up(where: Node | None, table: str, *, newer: bool) -> Node | None:
    """Write what a session's id has to be like for PostHog to find it; None for anything.

    :param where: the query's condition, resolved
    :param table: what the query calls the table
    :param newer: whether NOT is looked through, as servers do since the end of 2024
    """
    lookup = _Reader(table, newer=newer).read(where) if where is not None else _LOST
    if isinstance(lookup, Constant):
        return None
    # PostHog has no sessions whose ids are of another kind; here they are found at any time
    version = Call("substring", [Field(["session_id"], Ref(table, "session_id", Kind("string", nullable=False)))])
    version.args += [Constant(15), Constant(1)]
    return Logic("or", [Compare("notEquals", version, Constant("7")), lookup])


class _Reader:
    def __init__(self, table: str, *, newer: bool) -> None:
        self.newer = newer
        self.ref = Ref(table, "session_id_v7", Kind("integer", nullable=False))

    def read(self, node: Node) -> Node:
        if isinstance(node, Constant):
            return node
        op = node.op if isinstance(node, Logic) else node.name.lower() if isinstance(node, Call) else ""
        if op in ("and", "or", "not") and isinstance(node, (Call, Logic)):
            return {"and": self._and, "or": self._or, "not": self._not}[op]([*node.args])
        if isinstance(node, Compare):
            return self._compared(node.op, node.left, node.right)
        if isinstance(node, Call) and node.name in _FLIPPED and len(node.args) == 2:
            return self._compared(node.name, *node.args)
        return _LOST

    def _and(self, args: list[Node]) -> Node:
        parts = [self.read(arg) for arg in args]
        if any(isinstance(part, Constant) and not part.value for part in parts):
            return Constant(False)
        kept = [part for part in parts if not isinstance(part, Constant)]
        return Logic("and", kept) if len(kept) > 1 else kept[0] if kept else Constant(True)

    def _or(self, args: list[Node]) -> Node:
        parts = [self.read(arg) for arg in args]
        if any(part is _LOST for part in parts):
            return _LOST
        if any(isinstance(part, Constant) and part.value for part in parts):
            return Constant(True)
        kept = [part for part in parts if not isinstance(part, Constant)]
        return Logic("or", kept) if len(kept) > 1 else kept[0] if kept else Constant(False)

    def _not(self, args: list[Node]) -> Node:
        if not self.newer:
            return Constant(True)
        part = self.read(args[0])
        return _LOST if part is _LOST else Logic("not", [part])

    def _compared(self, op: str, left: Node, right: Node) -> Node:
        if op in _FLIPPED and _is_constant(left) and _is_time(right):
            op, left, right = _FLIPPED[op], right, left
        if op not in _FLIPPED or not _is_time(left) or not _is_constant(right):
            return Constant(True)
        around = Call("toIntervalDay", [Constant(_BUFFER_DAYS)])
        at = self._of_id(left)
        low = Compare("greaterOrEquals", at, Call("minus", [right, around]))
        high = Compare("lessOrEquals", at, Call("plus", [right, around]))
        if op == "equals":
            return Logic("and", [low, high])
        return low if op.startswith("greater") else high

    def _of_id(self, node: Node) -> Node:
        """Put the time of the id into the place of the session's."""
        if isinstance(node, Call):
            return Call(node.name, [self._of_id(arg) if _is_time(arg) else arg for arg in node.args])
        millis = Call("bitShiftRight", [Field(["session_id_v7"], self.ref), Constant(80)])
        return Call("fromUnixTimestamp", [Call("intDiv", [Call("_toUInt64", [millis]), Constant(1000)])])


def _is_constant(node: Node) -> bool:
    if isinstance(node, Constant):
        return True
    if isinstance(node, Sequence):
        return all(map(_is_constant, node.items))
    if not isinstance(node, Call):
        return False
    if node.name in _SUMS:
        return all(map(_is_constant, node.args))
    return node.name in _NOW or (node.name in _OF_CONSTANT and bool(node.args) and _is_constant(node.args[0]))


def _is_time(node: Node) -> bool:
    if isinstance(node, Field):
        return (
            node.expansion is None
            and node.ref is not None
            and node.ref.origin == "sessions"
            and node.ref.name in _TIMES
        )
    if not isinstance(node, Call) or not node.args:
        return False
    if node.name in _SUMS:
        left, right = node.args[0], node.args[-1]
        return (_is_time(left) and _is_constant(right)) or (_is_constant(left) and _is_time(right))
    return node.name in _OF_TIME and _is_time(node.args[0])
