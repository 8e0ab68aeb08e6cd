"""``python -m airflow_provider_posthog.audit verify FILE_OR_FOLDER``: checks certificates; needs no Airflow."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, cast

from airflow_provider_posthog.audit.chain import AuditFileSystem, file_names
from airflow_provider_posthog.audit.deadline import WARN_DAYS, today
from airflow_provider_posthog.audit.extract import extract
from airflow_provider_posthog.audit.finding import names
from airflow_provider_posthog.audit.ledger import due, read_ledger, requests_of
from airflow_provider_posthog.audit.ledger_check import verify_ledger
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import LEDGER, AuditError, is_record_name
from airflow_provider_posthog.audit.report import report, summary
from airflow_provider_posthog.audit.signing import read_public_key, write_key_pair
from airflow_provider_posthog.audit.verify import Keys, Verdict, keys_of, verify_folder, verify_lines
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError

SALT_VARIABLE = "POSTHOG_AUDIT_SALT"
#: What ``verify`` exits with, besides 0 and 2.
DAMAGED, NOT_CHECKED, OPEN = 1, 3, 4
_SALT_HELP = f"with {SALT_VARIABLE} set, their seals too (several salts: with blanks between them)"
_VERIFY_HELP = (
    "the folder of a request, a folder of such folders, a record, or a file with a record on each line: "
    "a path or a URL that fsspec knows, such as s3://bucket/certificates/DSR-42"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: the command line's; by default ``sys.argv``.
    :returns: of ``verify``: 0 if every certificate is closed, complete and unaltered, and its origin was checked; 1 if
        one, or the ledger, is damaged or forged; 3 if the origin was not checked; 4 if one is still open. Of ``due``: 1
        if a request is due. Of the others: 0, or 1 if nothing was found. 2 if something could not be read.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "keys":
            return _keys(options.private, options.public)
        if options.command == "due":
            return _due(options.where, options.within)
        keys = keys_of(_salts(), [read_public_key("--public-key", path) for path in options.public_key])
        if options.command == "extract":
            return _extract(options.where, options.kind, options.out, keys)
        if options.command == "find":
            return _find(options.where, options.kind, keys)
        return _verify(options.where, options.report, keys, options.ledger_head)
    except (PostHogError, OSError, ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_posthog.audit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--public-key", metavar="PUBLIC.pem", action="append", default=[], help="check signatures; may be given twice"
    )
    verify = commands.add_parser("verify", parents=[common], help=f"check certificates; {_SALT_HELP}")
    verify.add_argument("where", metavar="FILE_OR_FOLDER", help=_VERIFY_HELP)
    verify.add_argument("--report", metavar="OUT.html", help="write a page to read and to print; of one certificate")
    verify.add_argument("--ledger-head", metavar="HASH", help="a head of the ledger that a task has logged or returned")
    due = commands.add_parser("due", help=f"list the open requests that are due soon, or over; {_SALT_HELP}")
    due.add_argument("where", metavar="FOLDER", help="the folder of certificates, with its ledger")
    due.add_argument(
        "--within", type=int, default=WARN_DAYS, metavar="DAYS", help=f"how many days before ({WARN_DAYS})"
    )
    find = commands.add_parser(
        "find", parents=[common], help="find the certificates that name an identifier, read from standard input"
    )
    find.add_argument("where", metavar="FOLDER", help="the folder of certificates")
    find.add_argument("--kind", default="any", help="what it is: email, distinct_id, uuid, ticket, ... (any of them)")
    extract = commands.add_parser(
        "extract", parents=[common], help="write what a certificate says of one person, named on standard input"
    )
    extract.add_argument("where", metavar="FOLDER", help="the folder of the request")
    extract.add_argument("out", metavar="OUT.html", help="the file to hand out: a page, or JSON (OUT.json)")
    extract.add_argument(
        "--kind", default="any", help="uuid, distinct_id, email; or person, as the page lists it (any)"
    )
    keys = commands.add_parser("keys", help="make a pair of keys that sign certificates and check them")
    keys.add_argument("private", metavar="PRIVATE.pem", help="the workers' file; only they may read it")
    keys.add_argument("public", metavar="PUBLIC.pem", help="the file for everybody who checks")
    return parser


def _salts() -> list[Pseudonyms]:
    return [Pseudonyms(salt) for salt in os.environ.get(SALT_VARIABLE, "").split()]


def _keys(private: str, public: str) -> int:
    print(f"key_id {write_key_pair(private, public)}")
    return 0


def _due(where: str, within: int) -> int:
    fs, path = _open(where)
    records = list(read_ledger(path, fs, _salts()))
    if not records:
        raise FileNotFoundError(f"there is no ledger in {where}")
    day = today()
    requests = due(records, within, day)
    for request in requests:
        deadline = request.deadline
        says = (deadline.warning(day) or deadline.text()) if deadline else "nobody knows when it is due"
        print(f"{request.request_id}{f' ({request.ticket})' if request.ticket else ''}: {says}")
    still = sum(listed.is_open for listed in requests_of(records).values())
    print(f"{len(requests)} of {still} open requests are due within {within} days, or over", file=sys.stderr)
    return 1 if requests else 0


def _verify(where: str, page: str | None, keys: Keys, head: str | None) -> int:
    verdicts = list(_verdicts(where, keys))
    fs, path = _open(where)
    noted = {
        verdict.request_id: entry for verdict in verdicts if verdict.source != path and (entry := verdict.entered_as)
    }
    ledger = verify_ledger(path, fs, keys, head, noted) if fs.isdir(path) else None
    if not verdicts and ledger is None:
        raise FileNotFoundError(f"there is no certificate in {where}")
    if page and len(verdicts) > 1:
        raise ValueError(f"{where} holds {len(verdicts)} certificates; --report makes a page of one")
    print("\n".join([*map(summary, verdicts), *([ledger.summary()] if ledger else [])]))
    if ledger is None and any(verdict.source != path for verdict in verdicts) and fs.isdir(path):
        print(f"{path}\n  ledger: there is none, so that a certificate that was removed would not be missed")
    if page and verdicts:
        with open(page, "w", encoding="utf-8") as file:
            file.write(report(verdicts[0]))
        print(f"  report: {page}")
    if ledger is not None and (ledger.problems or not (verdicts or ledger.origin_checked)):
        return DAMAGED if ledger.problems else NOT_CHECKED
    return _status(verdicts) or (OPEN if ledger is not None and ledger.unended else 0)


def _status(verdicts: Sequence[Verdict]) -> int:
    """Return the worst: damaged, then of unknown origin, then open."""
    states = {verdict.state for verdict in verdicts}
    if "damaged" in states:
        return DAMAGED
    if not all(verdict.origin_checked for verdict in verdicts):
        return NOT_CHECKED
    return OPEN if "open" in states else 0


def _find(where: str, kind: str, keys: Keys) -> int:
    value = sys.stdin.readline().rstrip("\r\n")
    if not keys.salts and kind != "ticket":
        raise PostHogSettingsError(SALT_VARIABLE, "is not set.", "Write the connection's audit_secret into it.")
    fs, path = _open(where)
    is_named = damaged = False
    for folder in _folders(fs, path):
        try:
            if names(fs, folder, kind, value, keys.salts):
                is_named = True
                print(folder)
        except AuditError as error:
            damaged = True
            print(f"not looked through: {error}", file=sys.stderr)
    if not is_named:
        print("no certificate names it", file=sys.stderr)
    return 2 if damaged else 0 if is_named else 1


def _extract(where: str, kind: str, out: str, keys: Keys) -> int:
    fs, path = _open(where)
    try:
        records = extract(path, fs, kind, sys.stdin.readline().rstrip("\r\n"), keys)
    except AuditError as error:
        print(f"no extract: {error}", file=sys.stderr)
        return 1
    with open(out, "w", encoding="utf-8") as file:
        file.write(json.dumps(records.facts, indent=1) + "\n" if out.endswith(".json") else records.page())
    print(f"extract: {out}")
    return 0


def _verdicts(where: str, keys: Keys) -> Iterator[Verdict]:
    fs, path = _open(where)
    checked: Any = {"pseudonyms": keys.salts, "public_keys": keys.public}
    if fs.isdir(path):
        for folder in _folders(fs, path):
            yield verify_folder(folder, fs, **checked)
    elif is_record_name(path.rpartition("/")[2]):  # one record alone says nothing of those round it
        yield verify_folder(path.rpartition("/")[0], fs, **checked)
    else:
        yield verify_lines(path, fs, **checked)


def _folders(fs: AuditFileSystem, path: str) -> list[str]:
    """Return the folder itself and those in it, as far as they have records: records beside folders hide none."""
    names = [name for name in file_names(path, fs) if not name.startswith(".") and name != LEDGER]
    folders = [path, *(f"{path}/{name}" for name in names if fs.isdir(f"{path}/{name}"))]
    return [folder for folder in folders if any(is_record_name(name) for name in file_names(folder, fs))]


def _open(where: str) -> tuple[AuditFileSystem, str]:
    from fsspec.core import url_to_fs

    fs, path = cast("tuple[Any, str]", url_to_fs(where))
    return fs, path.rstrip("/")


if __name__ == "__main__":
    sys.exit(main())
