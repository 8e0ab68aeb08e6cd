"""The HogQL lexer of this package, for servers of every age.

Where PostHog's own lexers differ, this one follows the newest: there ``#`` begins a comment, and HogQLX tags
(``<a>Jane</a>``) are read; older servers refuse both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

from airflow_provider_posthog.patterns import pattern

#: ``name`` is a quoted one, ``template`` a piece of ``f'...'``, ``tag`` and ``element`` are HogQLX: a tag, and the
#: text between two. ``open`` is a ``/*`` that nothing closes: PostHog reads on behind it, as if it were a sum.
Kind = Literal["space", "comment", "open", "text", "name", "template", "tag", "element", "number", "word", "sign"]

_CODE = pattern(
    r"""
    (?P<space>[\s\ufeff]+)
  | (?P<comment>(?:--|//|\#)[^\n\r]* | /\*.*?\*/)
  | (?P<open>/\*)
  | (?P<text>'(?:[^'\\]|\\.|'')*(?:'|\\?\Z) | F'.*)
  | (?P<template>f'(?:[^'\\{]|\\.|'')*(?:'|\\?\Z)?)
  | (?P<name>"(?:[^"\\]|\\.|"")*(?:"|\\?\Z) | `(?:[^`\\]|\\.|``)*(?:`|\\?\Z))
  | (?P<number>0[xX][0-9a-fA-F]+ | 0[bB][01]+ | [0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
  | (?P<word>[^\W\d][\w$]* | \$[\w$]*)
  | (?P<sign>\?\.|->|::|.)
    """,
    re.VERBOSE | re.DOTALL,
)
#: The rest of an ``f'...'`` behind a brace.
_TEMPLATE = pattern(r"(?P<template>(?:[^'\\{]|\\.|'')+'? | ' | \\\Z) | (?P<sign>\{)", re.VERBOSE | re.DOTALL)
_ENDS = pattern(r"(?:[^'\\{]|\\.|'')*'", re.DOTALL)
_OPENS = r"<[A-Za-z_][\w-]*(?:\s+[A-Za-z_][\w-]*(?:\s*=\s*(?:'(?:[^'\\]|\\.|'')*'|\{(?:[^{}]|\{[^{}]*\})*\}))?)*\s*/?>"
_TAG = pattern(_OPENS)
_ELEMENT = pattern(
    rf"(?P<element>[^<{{]+) | (?P<tag></\s*[\w-]*\s*> | {_OPENS} | <) | (?P<sign>\{{)", re.VERBOSE | re.DOTALL
)


class Token(NamedTuple):
    """A sign, a word, a text, or the space between them.

    :param kind: what it is.
    :param text: how it is written.
    :param start: where it begins.
    :param inside: whether an ``f'...'``, or an element of HogQLX, that began before goes on here.
    """

    kind: Kind
    text: str
    start: int
    inside: bool = False

    @property
    def upper(self) -> str:
        """The word in capitals; ``""`` if it is none."""
        return self.text.upper() if self.kind == "word" else ""


def tokens(sql: str) -> Iterator[Token]:
    """Yield all of a text, in order and without a gap. No text is refused; a quote that nothing closes goes to the end.

    :param sql: HogQL.
    """
    at = 0
    # A stack of modes: like PostHog's lexer, read code inside braces, wherever those are.
    modes = ["code"]
    while at < len(sql):
        token = _next(sql, at, modes[-1])
        yield token._replace(inside=set(modes) != {"code"})
        _turn(modes, token)
        at += len(token.text)


def significant(sql: str) -> list[Token]:
    """Return the tokens that mean something: no comments, no spaces.

    :param sql: HogQL.
    """
    return [token for token in tokens(sql) if token.kind not in ("space", "comment")]


def _next(sql: str, at: int, mode: str) -> Token:
    if mode == "code" and sql[at] == "<" and (tag := _TAG.match(sql, at)) and _is_element(sql, tag):
        return Token("tag", tag.group(), at)
    pattern = {"code": _CODE, "template": _TEMPLATE, "element": _ELEMENT}[mode]
    match = cast("re.Match[str]", pattern.match(sql, at))
    return Token(cast("Kind", match.lastgroup), match.group(), at)


def _is_element(sql: str, tag: re.Match[str]) -> bool:
    """Distinguish a tag from two comparisons, as older servers read it: ``a <b AND c> d``."""
    if tag.group().endswith("/>"):
        return True
    name = re.match(r"[\w-]+", tag.group()[1:])
    return name is not None and re.compile(rf"</\s*{name.group()}\s*>").search(sql, tag.end()) is not None


def _turn(modes: list[str], token: Token) -> None:
    if token.kind == "sign":
        if token.text == "{":
            modes.append("code")
        elif token.text == "}" and len(modes) > 1:
            modes.pop()
    elif token.kind == "template":
        _turn_template(modes, token.text)
    elif token.kind == "tag":
        if token.text.startswith("</"):
            modes.pop()
        elif token.text != "<" and not token.text.endswith("/>"):
            modes.append("element")


def _turn_template(modes: list[str], text: str) -> None:
    """Enter or leave a text with expressions, ``f'...{a}...'``."""
    goes_on = modes[-1] == "template"
    ends = _ENDS.fullmatch(text, 0 if goes_on else 2) is not None
    if goes_on and ends:
        modes.pop()
    elif not goes_on and not ends:
        modes.append("template")
