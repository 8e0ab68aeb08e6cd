"""Keeps addresses that nobody else may read out of the logs of the HTTP libraries."""

from __future__ import annotations

import logging
import re

#: A parameter of an address: a presigned one's signature, an e-mail address, a name. Only these say nothing of anybody.
_PARAMETER = re.compile(r"(?i)([?&](?!(?:limit|offset|page|refresh|format|kind)=)[^=&\s]+=)[^&\s]+")


class HidePrivateParameters(logging.Filter):
    """Hides what may be private in the addresses that urllib3 logs at DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; let every record pass.

        :param record: the record.
        """
        if isinstance(record.args, tuple):
            record.args = tuple(_PARAMETER.sub(r"\1***", a) if isinstance(a, str) else a for a in record.args)
        return True


class DropRequestsToPostHog(logging.Filter):
    """Drops httpx's line per request to PostHog: it shows the whole address, and one of each poll helps nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line may be logged.

        :param record: httpx's record; its second argument is the address.
        """
        url = str(record.args[1]) if isinstance(record.args, tuple) and len(record.args) > 1 else ""
        return not any(url.startswith(f"{host}/") for host in self.hosts)


_dropping = DropRequestsToPostHog()
logging.getLogger("httpx").addFilter(_dropping)
for _name in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(HidePrivateParameters())


def log_no_requests_to(host: str) -> None:
    """Let httpx log no more requests to this host.

    :param host: scheme, host and port, without a slash at the end.
    """
    _dropping.hosts.add(host)
