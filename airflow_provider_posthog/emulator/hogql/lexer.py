"""HogQL text -> words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_posthog.emulator.hogql.errors import HogQLError

_ESCAPE = r"\\(?:[bfrntavBFRNTAV0\\]|[xX][0-9a-fA-F]{2})"
_TOKEN = re.compile(
    rf"""
    (?P<space>[\s\uFEFF]+|--[^\n\r]*|//[^\n\r]*|/\*.*?\*/)
  | (?P<number>0[xX][0-9a-fA-F]+(?:\.?[0-9a-fA-F]*[pP][+-]?\d+)?|0[bBoO]\d+
        |(?:\d+\.\d*|\.\d+|\d+)[eE][+-]?\d+|\d+)
  | (?P<template>f')
  | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
  | (?P<quoted>`(?:[^`\\]|{_ESCAPE}|\\'|``)*`|"(?:[^"\\]|{_ESCAPE}|\\"|"")*")
  | (?P<string>'(?:[^'\\]|{_ESCAPE}|\\'|'')*')
  | (?P<op>->|\|\||\?\?|\?\.|::|=~\*|=~|!~\*|!~|~\*|~|==|!=|<>|<=>|<=|>=|</|[-+*/%=<>()\[\]{{}},.:?;])
    """,
    re.VERBOSE | re.DOTALL,
)
_HASH = re.compile(r"#[^\n\r]*")
_TEXT = re.compile(rf"(?:[^\\'{{]|{_ESCAPE}|\\['{{]|'')+")
_TAG_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STRING = re.compile(rf"'(?:[^'\\]|{_ESCAPE}|\\'|'')*'")
# what PostHog looks at to tell a tag from a comparison: a delimiter, or a further word, after the first one
_TAG = re.compile(r"<[A-Za-z_][A-Za-z0-9_-]*(?:[>/]|\s(?:\s|//[^\n\r]*|--[^\n\r]*|\#[^\n\r]*)*[A-Za-z0-9_>/])")
_SPACE = re.compile(r"\s*")
_UNDONE = {"b": "\b", "f": "\f", "r": "\r", "n": "\n", "t": "\t", "0": "", "a": "\a", "v": "\v"}


@dataclass(frozen=True)
class Token:
    """One word: its kind, its text with quotes undone, and its place.

    The kinds are number, name, quoted, string, op, template, tag and end. ``1.5`` is three words, so that ``t.1.5`` can
    be two members; only a number with an exponent is one.

    ``parts`` of a template are texts and the words of its expressions; of a tag its name, attributes and children.
    """

    kind: str
    text: str
    start: int
    end: int
    parts: tuple[object, ...] = ()


def unquote(text: str) -> str:
    """Undo the quotes and escapes of a string or of a quoted name, as PostHog's parser does.

    :param text: the literal with its quotes
    """
    return _undo(text[1:-1], text[0])


def _undo(text: str, quote: str) -> str:
    def undo(match: re.Match[str]) -> str:
        escape: str = match.group(0)[1]
        return _UNDONE.get(escape, escape if escape in "\\'\"`{" else match.group(0))

    return re.sub(r"\\.|" + quote * 2, undo, text, flags=re.DOTALL)


def tokenize(text: str, *, newer: bool = True) -> list[Token]:
    """Split a query into words; comments and spaces are left out, the last word is an ``end``.

    :param text: the HogQL
    :param newer: ``#`` begins a comment, too
    :raises HogQLError: on a character that starts no word, such as an unclosed quote
    """
    return _Lexer(text, newer=newer).words(0)[0]


class _Lexer:
    """Reads words, those in the braces of templates and tags too.

    :param text: the HogQL
    :param newer: ``#`` begins a comment, too
    """

    def __init__(self, text: str, *, newer: bool) -> None:
        self.text = text
        self.newer = newer

    def words(self, place: int, *, nested: bool = False) -> tuple[list[Token], int]:
        """Read words to the end, or to the brace that closes what is nested.

        :param place: where they begin
        :param nested: whether they stand in braces
        :returns: the words and the place after them
        """
        tokens: list[Token] = []
        depth = 0
        while place < len(self.text):
            token = self._word(place)
            place = token.end
            if token.kind == "op" and token.text in "{}":
                depth += 1 if token.text == "{" else -1
                if nested and depth < 0:
                    return [*tokens, Token("end", "}", token.start, token.end)], place
            if token.kind != "space":
                tokens.append(token)
        if nested:
            raise self._error(place)
        return [*tokens, Token("end", "<EOF>", place, place)], place

    def _word(self, place: int) -> Token:
        match = _TOKEN.match(self.text, place) or (_HASH.match(self.text, place) if self.newer else None)
        if match is None:
            raise self._error(place)
        kind, word = match.lastgroup or "space", match.group()
        if kind == "template":
            return self._template(place)
        if word == "<" and _TAG.match(self.text, place):
            return self._tag(place)
        shown = unquote(word) if kind in ("quoted", "string") else word
        return Token(kind, shown, place, match.end())

    def _error(self, place: int) -> HogQLError:
        sign = self.text[place : place + 1]
        if not self.newer:
            return HogQLError(f"token recognition error at: '{self.text[place : place + 20]}'")
        if sign in ("'", '"', "`", ""):
            return HogQLError(f"no viable alternative at input '{self.text[: place + 1]}'")
        return HogQLError(f"Unexpected character '{sign}' (U+{ord(sign):04X})")

    # -- f'...{x}...' --------------------------------------------------------------------------------------------

    def _template(self, start: int) -> Token:
        parts: list[object] = []
        place = start + 2
        while self.text[place : place + 1] != "'":
            match = _TEXT.match(self.text, place)
            if match is not None:
                parts.append(_undo(match.group(), "'"))
                place = match.end()
            elif self.text[place : place + 1] == "{":
                words, place = self.words(place + 1, nested=True)
                parts.append(words)
            elif self.text[place : place + 1] == "\\":
                # an escape that does not exist: PostHog's lexer lets it fall
                place += 2
            else:
                raise self._error(len(self.text))
        return Token("template", self.text[start : place + 1], start, place + 1, tuple(parts))

    # -- <tag attribute='text' other={x}>children</tag> ----------------------------------------------------------

    def _tag(self, start: int) -> Token:
        name, place = self._match(_TAG_NAME, start + 1)
        attributes: list[tuple[str, object]] = []
        while True:
            place = self._match(_SPACE, place)[1]
            if self.text.startswith("/>", place):
                return Token("tag", self.text[start : place + 2], start, place + 2, (name, attributes, []))
            if self.text.startswith(">", place):
                children, place = self._children(name, place + 1)
                return Token("tag", self.text[start:place], start, place, (name, attributes, children))
            key, place = self._match(_TAG_NAME, place)
            value, place = self._attribute(self._match(_SPACE, place)[1])
            attributes.append((key, value))

    def _attribute(self, place: int) -> tuple[object, int]:
        if not self.text.startswith("=", place):
            return True, place
        place = self._match(_SPACE, place + 1)[1]
        if self.text.startswith("{", place):
            return self.words(place + 1, nested=True)
        word, place = self._match(_STRING, place)
        return unquote(word), place

    def _children(self, name: str, place: int) -> tuple[list[object], int]:
        children: list[object] = []
        while not self.text.startswith("</", place):
            read: Callable[[int], tuple[object, int]] = self._text_child
            if self.text.startswith("{", place):
                read = self._braces
            elif self.text.startswith("<", place):
                read = self._tag_child
            child, place = read(place)
            children.append(child)
        closing, place = self._match(_TAG_NAME, self._match(_SPACE, place + 2)[1])
        if closing != name:
            raise HogQLError(f"Opening and closing HogQLX tags must match. Got {name} and {closing}")
        return children, self._match(re.compile(r"\s*>"), place)[1]

    def _text_child(self, place: int) -> tuple[object, int]:
        return self._match(re.compile(r"[^<{]+"), place)

    def _braces(self, place: int) -> tuple[object, int]:
        return self.words(place + 1, nested=True)

    def _tag_child(self, place: int) -> tuple[object, int]:
        tag = self._tag(place)
        return tag, tag.end

    def _match(self, pattern: re.Pattern[str], place: int) -> tuple[str, int]:
        match = pattern.match(self.text, place)
        if match is None:
            raise self._error(place)
        return match.group(), match.end()
