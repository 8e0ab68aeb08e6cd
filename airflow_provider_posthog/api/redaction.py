"""Keep private addresses out of the logs of the HTTP libraries."""

from __future__ import annotations

import logging
import re

from airflow_provider_posthog.exceptions import PERSON_PATHS

#: A parameter of an address: a signature, an e-mail address, a name. Only the excepted ones are never private.
_PARAMETER = re.compile(r"(?i)([?&](?!(?:limit|offset|page|refresh|format|kind)=)[^=&\s]+=)[^&\s]+")

#: A header of an answer that sets a cookie or leads to a presigned address, as httpcore writes it.
_HEADER = re.compile(
    r"""(?i)(\(b(['"])(?:set-cookie|location|content-location|link|refresh|authorization|proxy-authenticate|"""
    r"""www-authenticate)\2, )b(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
)


def _hidden(text: str) -> str:
    return PERSON_PATHS.sub(r"\1***", _PARAMETER.sub(r"\1***", text))


class HidePrivateParameters(logging.Filter):
    """Hides what may be private in the addresses that urllib3 logs at DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; let every record pass.

        :param record: the record.
        """
        if isinstance(record.args, tuple):
            record.args = tuple(
                _hidden(argument) if isinstance(argument, str) else argument for argument in record.args
            )
        return True


class HideUnreadHeaders(logging.Filter):
    """Drops what urllib3 quotes at WARNING of headers that it cannot read, with the whole address before it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; let every record pass.

        :param record: the record.
        """
        if record.levelno >= logging.WARNING and record.args:
            record.msg, record.args = "An answer has headers that cannot be read", ()
            record.exc_info = record.exc_text = None
        return True


class HideReceivedHeaders(logging.Filter):
    """Hides the headers that may hold a secret in the answers that httpcore logs at DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; let every record pass.

        :param record: httpcore's record, whose message is whole.
        """
        if isinstance(record.msg, str):
            record.msg = _HEADER.sub(r"\1b'***'", record.msg)
        return True


class DropRequestsToPostHog(logging.Filter):
    """Drops httpx's line per request to PostHog: it shows the whole address, and a line per poll is of no use."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line may be logged.

        :param record: httpx's record; its second argument is the address.
        """
        url = str(record.args[1]) if isinstance(record.args, tuple) and len(record.args) > 1 else ""
        return not any(url.startswith(f"{host}/") for host in self.hosts)


_dropping = DropRequestsToPostHog()
logging.getLogger("httpx").addFilter(_dropping)
for _name in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(HidePrivateParameters())
logging.getLogger("urllib3.connection").addFilter(HideUnreadHeaders())
for _name in ("http11", "http2", "connection", "proxy", "socks"):
    logging.getLogger(f"httpcore.{_name}").addFilter(HideReceivedHeaders())


def log_no_requests_to(host: str) -> None:
    """Stop httpx from logging requests to this host.

    :param host: scheme, host and port, without a slash at the end.
    """
    _dropping.hosts.add(host)
