"""HogQL text -> words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_posthog.emulator.hogql_errors import HogQLError

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|//[^\n]*|/\*.*?\*/)
  | (?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)
  | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
  | (?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
  | (?P<string>'(?:[^'\\]|\\.|'')*')
  | (?P<op>->|\|\||\?\?|\?\.|=~\*|=~|!~\*|!~|~\*|~|==|!=|<>|<=|>=|[-+*/%=<>()\[\]{},.:?;])
    """,
    re.VERBOSE | re.DOTALL,
)
# `t.1.2` is two tuple accesses, not the numbers .1 and .2
_INDEX = re.compile(r"(?P<op>\.)(?=\d)|(?P<number>\d+)")
_ESCAPES = {"b": "\b", "f": "\f", "r": "\r", "n": "\n", "t": "\t", "0": "", "a": "\a", "v": "\v"}


@dataclass(frozen=True)
class Token:
    """One word: its kind (number, name, quoted, string, op, end), its text with quotes undone, and its place."""

    kind: str
    text: str
    start: int
    end: int


def unquote(text: str) -> str:
    """Undo the quotes and escapes of a string or of a quoted name, as PostHog's parser does.

    :param text: the literal with its quotes
    """
    quote = text[0]

    def undo(found: re.Match[str]) -> str:
        escape: str = found.group(0)[1]
        return _ESCAPES.get(escape, escape if escape in "\\'\"`" else found.group(0))

    return re.sub(r"\\.|" + quote * 2, undo, text[1:-1], flags=re.DOTALL)


def tokenize(text: str) -> list[Token]:
    """Split a query into words; comments and spaces are left out, the last word is an ``end``.

    :param text: the HogQL
    :raises HogQLError: on a character that starts no word, such as an unclosed quote
    """
    tokens: list[Token] = []
    place = 0
    while place < len(text):
        found = (_INDEX if _after_member_dot(tokens, text, place) else _TOKEN).match(text, place)
        if found is None:
            raise HogQLError(f"token recognition error at: '{text[place : place + 20]}'")
        kind = found.lastgroup or "op"
        place = found.end()
        if kind != "space":
            word = found.group()
            shown = unquote(word) if kind in ("quoted", "string") else word
            tokens.append(Token(kind, shown, found.start(), found.end()))
    tokens.append(Token("end", "<EOF>", len(text), len(text)))
    return tokens


def _after_member_dot(tokens: list[Token], text: str, place: int) -> bool:
    """Whether a number that starts here is the index of a tuple access."""
    if not tokens or tokens[-1].end != place:
        return False
    before = tokens[-1]
    if text[place] != ".":
        return before.text == "." and text[place].isdigit()
    indexable = before.kind in ("name", "quoted") or before.text in (")", "]")
    chained = before.kind == "number" and len(tokens) > 1 and tokens[-2].text == "."
    return text[place + 1 : place + 2].isdigit() and (indexable or chained)
