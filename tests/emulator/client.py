"""A bare HTTP client for the tests of the emulator."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests

Found = TypeVar("Found")
CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def hogql(text: str, **values: object) -> dict[str, Any]:
    return {"kind": "HogQLQuery", "query": text, **({"values": values} if values else {})}


class Client:
    """Calls with a key; ``path`` is below the project unless it begins with a slash."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        if key:
            self.session.headers["Authorization"] = f"Bearer {key}"

    def __call__(self, method: str, path: str, **options: object) -> requests.Response:
        full = self.url + (path if path.startswith("/") else f"/api/projects/1/{path}")
        return self.session.request(method, full, **{"timeout": 30, "allow_redirects": False, **options})

    def get(self, path: str, **options: object) -> requests.Response:
        return self("GET", path, **options)

    def post(self, path: str, body: object = None, **options: object) -> requests.Response:
        return self("POST", path, json=body, **options)

    def delete_(self, path: str) -> tuple[int, Any]:
        answer = self("DELETE", path)
        return answer.status_code, answer.json()

    def query(self, text: str, refresh: str = "force_blocking", **values: object) -> requests.Response:
        return self.post("query/", {"query": hogql(text, **values), "refresh": refresh})

    def export(self, source: object, export_format: str = CSV, **context: object) -> dict[str, Any]:
        """Create an export by source and return it as it is once it has ended."""
        body = {"export_format": export_format, "export_context": {"source": source, **context}}
        made = self.post("exports/", body)
        assert made.status_code == 201, made.text
        return self.ended(made.json()["id"])

    def ended(self, export_id: int) -> dict[str, Any]:
        """Wait for an export to have content or an exception."""

        def look() -> dict[str, Any] | None:
            export: dict[str, Any] = self.get(f"exports/{export_id}/").json()
            return export if export["has_content"] or export.get("exception") else None

        return wait_for(look)

    def content(self, export_id: int, download: str = "") -> requests.Response:
        """Fetch a file as a client should: the redirect by hand, without the key."""
        answer = self.get(f"exports/{export_id}/content/", params={"download": download} if download else None)
        if answer.status_code == 302:
            return bare(answer.headers["Location"])
        return answer

    def table(self, source: object, **context: object) -> list[str]:
        """Create a CSV export by source and return its lines."""
        export = self.export(source, **context)
        assert export["has_content"], export
        text = self.content(export["id"]).content.decode()
        assert text.endswith("\r\n")
        return text[:-2].split("\r\n")


def bare(url: str, **options: object) -> requests.Response:
    """Fetch an address without a key."""
    session = requests.Session()
    session.trust_env = False
    return session.get(url, timeout=30, allow_redirects=False, **options)


def wait_for(look: Callable[[], Found | None], seconds: float = 20.0) -> Found:
    """Call ``look`` until it returns something else than None and False, and return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found is not None and found is not False:
            return found
        time.sleep(0.01)
    raise AssertionError(f"It did not happen within {seconds:g} s: {look}")
