"""The object storage behind the exports: files at signed addresses of another host."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode
from xml.sax.saxutils import escape

from airflow_provider_posthog.emulator.clock import Clock
from airflow_provider_posthog.emulator.http.messages import Answer

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class StoredFile:
    """A file of the storage."""

    content: bytes
    content_type: str
    etag: str


class Storage:
    """Files by path. Like S3, it answers signed addresses only and none that come with an Authorization header.

    :param clock: the emulator's clock; signed addresses expire by it.
    :param secret: what addresses are signed with.
    """

    def __init__(self, clock: Clock, secret: bytes) -> None:
        self._clock = clock
        self._secret = secret
        self._files: dict[str, StoredFile] = {}
        self.base_url = ""
        self.link_seconds = 3600.0

    def clear(self) -> None:
        """Forget all files."""
        self._files.clear()

    def sign(self, path: str, content: bytes, content_type: str, disposition: str | None) -> str:
        """Store a file and return an address for it that works for ``link_seconds``.

        :param path: of the file, with a leading slash.
        :param content: of the file.
        :param content_type: of the file.
        :param disposition: the Content-Disposition that the address will answer with, or None.
        """
        if path not in self._files or self._files[path].content is not content:
            etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
            self._files[path] = StoredFile(content, content_type, f'"{etag}"')
        query = {"response-content-type": content_type}
        if disposition:
            query["response-content-disposition"] = disposition
        query |= {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Date": self._clock.now().strftime("%Y%m%dT%H%M%SZ"),
            "X-Amz-Expires": str(int(self.link_seconds)),
            "X-Emulator-Until": f"{self._clock.timestamp() + self.link_seconds:.6f}",
        }
        query["X-Amz-Signature"] = self._signature(path, query)
        return f"{self.base_url}{quote(path)}?{urlencode(query)}"

    def _signature(self, path: str, query: Mapping[str, str]) -> str:
        text = path + "\n" + urlencode(sorted(query.items()))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def answer(self, method: str, path: str, query_string: str, headers: Mapping[str, str]) -> Answer:
        """Answer a request.

        :param method: GET or HEAD.
        :param path: without the query, decoded.
        :param query_string: the signature and what it covers.
        :param headers: with names in lower case.
        """
        if method not in ("GET", "HEAD"):
            return _error(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
        query = dict(parse_qsl(query_string, keep_blank_values=True))
        if "authorization" in headers:
            text = (
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
                "parameter or the Authorization header should be specified"
            )
            return _error(400, "InvalidArgument", text)
        signature = query.pop("X-Amz-Signature", "")
        if not signature:
            return _error(403, "AccessDenied", "Access Denied")
        if not hmac.compare_digest(signature.encode(), self._signature(path, query).encode()):
            return _error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        if float(query.get("X-Emulator-Until", "0")) < self._clock.timestamp():
            return _error(403, "AccessDenied", "Request has expired")
        stored = self._files.get(path)
        if stored is None:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        return _file(stored, query, headers)


def _file(stored: StoredFile, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
    answer_headers = {"ETag": stored.etag, "Accept-Ranges": "bytes"}
    if "response-content-disposition" in query:
        answer_headers["Content-Disposition"] = query["response-content-disposition"]
    content_type = query.get("response-content-type", stored.content_type)
    if headers.get("if-match", stored.etag) not in ("*", stored.etag):
        return _error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
    wanted = _RANGE.fullmatch(headers.get("range", ""))
    if wanted is None or headers.get("if-range", stored.etag) != stored.etag or wanted[0] == "bytes=-":
        return Answer(200, stored.content, content_type, answer_headers)
    size = len(stored.content)
    first, last = wanted[1], wanted[2]
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        refused = _error(416, "InvalidRange", "The requested range is not satisfiable")
        return Answer(416, refused.body, refused.content_type, {"Content-Range": f"bytes */{size}"})
    answer_headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Answer(206, stored.content[start : end + 1], content_type, answer_headers)


def _error(status: int, code: str, message: str) -> Answer:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    text = f"{head}<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return Answer(status, text.encode(), "application/xml")
