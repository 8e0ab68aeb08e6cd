"""The words of a query, read one by one, and the names among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from airflow_provider_posthog.emulator.hogql.errors import HogQLError, UnsupportedError
from airflow_provider_posthog.emulator.hogql.lexer import Token, tokenize
from airflow_provider_posthog.emulator.hogql.values import words

Read = TypeVar("Read")
_KEYWORDS = words(
    "all and anti any array as ascending asc asof between both by case cast catch cohort collate columns cross cube "
    "current date day desc descending distinct else end except exclude extract final fill filter finally first fn "
    "following for from full fun group grouping having hour id if ilike ignore include in inf infinity inner intersect "
    "interpolate interval is join key lambda last leading left let like limit local materialized minute month name nan "
    "natural not null nulls offset on or order outer over partition pivot positional preceding prewhere qualify "
    "quarter range recursive replace return right rollup row rows sample second select semi sets settings step "
    "substring then throw ties time timestamp to top totals trailing trim truncate try try_cast unbounded union "
    "unpivot using values week when where while window with within year yyyy zone"
)
# keywords that are no names anywhere
_RESERVED = words("inf infinity nan null")
_RESERVED_BY_NEWER = words("catch except finally fn fun intersect let materialized throw try while within")
_NOT_AN_ALIAS = frozenset({"true", "false", "null", "team_id"})
# keywords that may follow a column, or a table, as its alias without AS
_BARE_COLUMN_ALIASES = words("ascending asc cohort date descending final id return top totals")
_BARE_TABLE_ALIASES = words("date first id key")
# what ends a list after a comma that nothing follows
_CLAUSES = words(
    "from where prewhere group having qualify window order limit offset union intersect except settings array"
)


class Words:
    """Reads the words of a query in their order.

    :param text: the HogQL
    :param newer: read what servers of 2025 and later read
    """

    def __init__(self, text: str, *, newer: bool) -> None:
        self.text = text
        self.newer = newer
        self.tokens = tokenize(text, newer=newer)
        self.place = 0

    @property
    def token(self) -> Token:
        """The word not yet read."""
        return self.tokens[self.place]

    def ahead(self, count: int = 1) -> Token:
        """Look at a coming word.

        :param count: how many places after the next one
        """
        return self.tokens[min(self.place + count, len(self.tokens) - 1)]

    def take(self) -> Token:
        """Read one word."""
        token = self.token
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def at(self, *texts: str) -> bool:
        """Return whether the coming words are these keywords or signs."""
        for count, text in enumerate(texts):
            token = self.ahead(count)
            if token.kind not in ("name", "op") or token.text.lower() != text:
                return False
        return True

    def accept(self, *texts: str) -> bool:
        """Read these keywords or signs if they are what comes."""
        if not self.at(*texts):
            return False
        for _ in texts:
            self.take()
        return True

    def expect(self, *texts: str) -> None:
        """Read these keywords or signs.

        :raises HogQLError: if something else comes
        """
        if not self.accept(*texts):
            raise self.error()

    def error(self) -> HogQLError:
        """Make the error of PostHog's parser about the word not yet read."""
        return HogQLError(f"no viable alternative at input '{self.text[: self.token.end]}'")

    def within(self, tokens: list[Token], read: Callable[[], Read]) -> Read:
        """Read words that stand in the braces of a template or of a tag, to their end.

        :param tokens: those words
        :param read: reads them
        """
        outside = self.tokens, self.place
        self.tokens, self.place = tokens, 0
        try:
            node = read()
            if self.token.kind != "end":
                raise self.error()
        finally:
            self.tokens, self.place = outside
        return node

    def attempt(self, read: Callable[[], Read]) -> Read | None:
        """Read something, or go back to where it would have begun.

        :param read: reads it
        """
        place = self.place
        try:
            return read()
        except UnsupportedError:
            raise
        except HogQLError:
            self.place = place
            return None

    def is_name(self, token: Token) -> bool:
        """Return whether a word can be a name; most keywords can.

        :param token: the word
        """
        if token.kind != "name":
            return token.kind == "quoted"
        word = token.text.lower()
        return word not in _RESERVED and not (self.newer and word in _RESERVED_BY_NEWER)

    def is_keyword(self, token: Token, *, but: frozenset[str]) -> bool:
        """Return whether a word is a keyword.

        :param token: the word
        :param but: keywords that do not count
        """
        word = token.text.lower()
        return token.kind == "name" and word in _KEYWORDS and word not in but

    def identifier(self) -> str:
        """Read a name.

        :raises HogQLError: if something else comes
        """
        if self.is_name(self.token):
            return self.take().text
        raise self.error()

    def ends_list(self) -> bool:
        """Return whether a list ends here, after a comma: the next clause begins, or what is around the list closes."""
        if self.token.kind == "end" or self.token.text in (")", "]", "}"):
            return True
        word, follows = self.token.text.lower(), self.ahead()
        if self.token.kind != "name" or word not in _CLAUSES or (word == "array" and follows.text.lower() != "join"):
            return False
        starts_column = follows.text in (",", ".", ")", "(") or follows.kind == "end" or follows.text.lower() == "as"
        return not starts_column and follows.text.lower() not in _CLAUSES

    def alias(self) -> str:
        """Read the name after AS.

        :raises HogQLError: for a name that PostHog reserves
        """
        name = self.take().text if self.token.kind == "string" else self.identifier()
        if not name:
            raise HogQLError("Alias cannot be empty")
        if name.lower() in _NOT_AN_ALIAS:
            raise HogQLError(f'"{name}" cannot be an alias or identifier, as it\'s a reserved keyword')
        return name

    def bare_alias(self) -> str | None:
        """Read the alias of a table, with or without AS."""
        if self.at("as") and self.ahead().kind == "string":
            raise self.error()
        return self._bare_alias(_BARE_TABLE_ALIASES)

    def bare_column_alias(self) -> str | None:
        """Read the alias of a column that has no AS."""
        return self._bare_alias(_BARE_COLUMN_ALIASES) if not self.at("as") else None

    def _bare_alias(self, allowed: frozenset[str]) -> str | None:
        if self.accept("as"):
            return self.alias()
        if self.token.kind == "quoted" or (self.token.kind == "name" and not self.is_keyword(self.token, but=allowed)):
            return self.alias()
        return None
