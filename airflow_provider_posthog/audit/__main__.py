"""``python -m airflow_provider_posthog.audit verify FILE_OR_FOLDER``: checks certificates; needs no Airflow."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, cast

from airflow_provider_posthog.audit.chain import AuditFileSystem, file_names
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import is_record_name
from airflow_provider_posthog.audit.report import report, summary
from airflow_provider_posthog.audit.verify import Verdict, verify_folder, verify_lines
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError

SALT_VARIABLE = "POSTHOG_AUDIT_SALT"
_VERIFY_HELP = (
    "the folder of a request, a folder of such folders, a record, or a file with a record on each line: "
    "a path or a URL that fsspec knows, such as s3://bucket/certificates/DSR-42"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: the command line's; by default ``sys.argv``.
    :returns: 0 if every certificate is complete and unaltered (``verify``) or one holds the identifier (``find``), 1 if
        not, 2 if it could not be read.
    """
    asked = _parser().parse_args(arguments)
    try:
        salt = os.environ.get(SALT_VARIABLE)
        pseudonyms = Pseudonyms(salt) if salt else None
        if asked.command == "find":
            return _find(asked.where, asked.kind, pseudonyms)
        return _verify(asked.where, asked.report, pseudonyms)
    except (PostHogError, OSError, ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_posthog.audit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help=f"check certificates; with {SALT_VARIABLE} set, their seals too")
    verify.add_argument("where", metavar="FILE_OR_FOLDER", help=_VERIFY_HELP)
    verify.add_argument("--report", metavar="OUT.html", help="write a page to read and to print; of one certificate")
    find = commands.add_parser("find", help="find the certificates that name an identifier, read from standard input")
    find.add_argument("where", metavar="FOLDER", help="the folder of certificates")
    find.add_argument("--kind", default="email", help="what it is: email, distinct_id, ... (email)")
    return parser


def _verify(where: str, page: str | None, pseudonyms: Pseudonyms | None) -> int:
    verdicts = list(_verdicts(where, pseudonyms))
    if not verdicts:
        raise FileNotFoundError(f"there is no certificate in {where}")
    if page and len(verdicts) > 1:
        raise ValueError(f"{where} holds {len(verdicts)} certificates; --report makes a page of one")
    print("\n".join(summary(verdict) for verdict in verdicts))
    if page:
        with open(page, "w", encoding="utf-8") as file:
            file.write(report(verdicts[0]))
        print(f"  report: {page}")
    return 0 if all(verdict.is_intact for verdict in verdicts) else 1


def _find(where: str, kind: str, pseudonyms: Pseudonyms | None) -> int:
    if pseudonyms is None:
        raise PostHogSettingsError(SALT_VARIABLE, "is not set.", "Write the connection's audit_salt into it.")
    wanted = pseudonyms.of(kind, sys.stdin.readline().rstrip("\r\n"))["hmac"].encode()
    fs, path = _open(where)
    found = False
    for folder in _folders(fs, path):
        if any(wanted in fs.cat_file(f"{folder}/{name}") for name in file_names(folder, fs) if is_record_name(name)):
            found = True
            print(folder)
    if not found:
        print("no certificate names it", file=sys.stderr)
    return 0 if found else 1


def _verdicts(where: str, pseudonyms: Pseudonyms | None) -> Iterator[Verdict]:
    fs, path = _open(where)
    if fs.isdir(path):
        for folder in _folders(fs, path):
            yield verify_folder(folder, fs, pseudonyms=pseudonyms)
    elif is_record_name(path.rpartition("/")[2]):  # one record alone says nothing of those round it
        yield verify_folder(path.rpartition("/")[0], fs, pseudonyms=pseudonyms)
    else:
        yield verify_lines(path, fs, pseudonyms=pseudonyms)


def _folders(fs: AuditFileSystem, path: str) -> list[str]:
    """Return the folder itself if it has records, and otherwise the folders in it that have."""
    names = file_names(path, fs)
    if any(is_record_name(name) for name in names):
        return [path]
    inside = [f"{path}/{name}" for name in names if not name.startswith(".") and fs.isdir(f"{path}/{name}")]
    return [folder for folder in inside if any(is_record_name(name) for name in file_names(folder, fs))]


def _open(where: str) -> tuple[AuditFileSystem, str]:
    from fsspec.core import url_to_fs

    fs, path = cast("tuple[Any, str]", url_to_fs(where))
    return fs, path.rstrip("/")


if __name__ == "__main__":
    sys.exit(main())
