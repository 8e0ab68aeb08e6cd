"""The words of a query, read one by one, and the names among them."""

from __future__ import annotations

from airflow_provider_posthog.emulator.hogql_errors import HogQLError
from airflow_provider_posthog.emulator.hogql_lexer import Token, tokenize
from airflow_provider_posthog.emulator.hogql_values import words

_KEYWORDS = words(
    "all and any array as asc ascending asof between both by case cast cross desc descending distinct else end final "
    "following from full group having in inner intersect interval into is join left like ilike limit not null offset "
    "on or order over partition preceding prewhere right sample select semi anti settings then top totals unbounded "
    "union using when where window with inf nan"
)
_RESERVED = frozenset({"inf", "nan", "null"})
_NOT_AN_ALIAS = frozenset({"true", "false", "null", "team_id"})


class Words:
    """Reads the words of a query in their order.

    :param text: the HogQL
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
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
        """Tell whether the coming words are these keywords or signs."""
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

    def identifier(self) -> str:
        """Read a name; keywords are names too, but for ``null``, ``inf`` and ``nan``."""
        token = self.token
        if token.kind == "quoted" or (token.kind == "name" and token.text.lower() not in _RESERVED):
            return self.take().text
        raise self.error()

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
        if self.accept("as"):
            return self.alias()
        if self.token.kind == "quoted" or (self.token.kind == "name" and self.token.text.lower() not in _KEYWORDS):
            return self.alias()
        return None
