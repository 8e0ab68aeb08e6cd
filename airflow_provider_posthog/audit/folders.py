"""The names of certificates' folders: one that is called as another request's stands in that one's place."""

from __future__ import annotations

import re

from airflow_provider_posthog.audit.chain import AuditFileSystem, request_folder
from airflow_provider_posthog.audit.records import LEDGER
from airflow_provider_posthog.exceptions import PostHogSettingsError


def is_folder_of(folder: str, request_id: str) -> bool:
    """Return whether a folder is called as that of a request.

    :param folder: the folder.
    :param request_id: the request's id, as its records have it.
    """
    try:
        return folder.rstrip("/").rpartition("/")[2] == request_folder(request_id)
    except PostHogSettingsError:  # of a record that this package did not write
        return False


def stands_for_a_request(folder: str, fs: AuditFileSystem) -> bool:
    """Return whether a folder's name says which request it is: beside a ledger, or where it is called like an id.

    A copy of a certificate may be called otherwise.

    :param folder: the folder.
    :param fs: the file system.
    """
    around, _, name = folder.rstrip("/").rpartition("/")
    return bool(re.fullmatch(r"[0-9a-f]{32}", name)) or fs.isdir(f"{around}/{LEDGER}")
