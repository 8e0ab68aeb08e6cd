"""Check the first bytes of exports' files, so that a storage's error is never taken for a file."""

from __future__ import annotations

import re
from collections.abc import Collection

from airflow_provider_posthog.exceptions import PostHogTransportError

#: How many of a file's first bytes are looked at.
HEAD = 512
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_MAGIC = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "application/pdf": re.compile(rb"%PDF-"),
    "video/mp4": re.compile(rb"....ftyp", re.DOTALL),
    "video/webm": re.compile(rb"\x1a\x45\xdf\xa3"),
    _XLSX: re.compile(rb"PK"),
}
#: What no CSV of PostHog's begins with: XML, a page, or JSON, as a cell with a quotation mark is quoted itself.
_NO_CSV = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<(?:\?xml|!doctype|html|error|body|head)\b|\{\s*\"|\[\s*\{)", re.IGNORECASE
)


class Head:
    """Keeps the first bytes of what streams by."""

    def __init__(self) -> None:
        self.data = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        :param chunk: the bytes.
        """
        if len(self.data) < HEAD:
            self.data += chunk[: HEAD - len(self.data)]

    def reset(self) -> None:
        """Forget them: the file starts again."""
        self.data = b""


def check_content_type(content_type: str | None, refused: Collection[str], what: str) -> None:
    """Refuse what comes as a login page or a proxy's error does.

    :param content_type: of the answer.
    :param refused: the types that no such file comes as.
    :param what: names the file, for the error.
    :raises PostHogTransportError: if it is one of these types.
    """
    if content_type in refused:
        raise _answered_instead(f"{what} came as {content_type}")


def check_kind(export_format: object, head: bytes, what: str) -> None:
    """Refuse a file that does not begin as one of its format does.

    :param export_format: the export's.
    :param head: the file's first bytes.
    :param what: names the file, for the error.
    :raises PostHogTransportError: if it is another kind of file.
    """
    magic = _MAGIC.get(str(export_format))
    fits = magic.match(head) if magic is not None else not (export_format == "text/csv" and _NO_CSV.match(head))
    if not fits:
        raise _answered_instead(f"{what} is no {export_format}, by its first bytes")


def _answered_instead(what: str) -> PostHogTransportError:
    return PostHogTransportError(f"{what}: something between here and PostHog answered in its place")
