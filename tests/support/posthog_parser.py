"""PostHog's own parser of HogQL (``hogql-parser``), as a judge of what we read in statements."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

ERRORS = (
    "BaseHogQLError",
    "ExposedHogQLError",
    "InternalHogQLError",
    "NotImplementedError",
    "ParsingError",
    "SyntaxError",
)


def _parser() -> Any:
    """Import it. It wants modules of PostHog's server by their names; the JSON that is used here needs their errors."""
    posthog, hogql = ModuleType("posthog"), ModuleType("posthog.hogql")
    tree, errors = ModuleType("posthog.hogql.ast"), ModuleType("posthog.hogql.errors")
    for name in ERRORS:
        setattr(errors, name, type(name, (Exception,), {}))
    stubs = {each.__name__: each for each in (posthog, hogql, tree, errors)}
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        import hogql_parser
    finally:
        # PostHog's SDK has one of these names, too
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return hogql_parser


_PARSER = _parser()


def tree(sql: str) -> dict[str, Any] | None:
    """Parse a statement.

    :param sql: HogQL.
    :returns: PostHog's tree, or ``None`` if PostHog refuses the statement.
    """
    found: dict[str, Any] = json.loads(_PARSER.parse_select_json(sql))
    return None if found.get("error") else found
