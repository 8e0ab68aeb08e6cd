"""``python -m airflow_provider_posthog.audit``."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_posthog.audit.__main__ import DAMAGED, NOT_CHECKED, OPEN, SALT_VARIABLE, main
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.signing import read_signer
from tests.audit.support import ANN, SALT, fill, trail_in


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two certificates, of which the second one has a survivor; and the salt."""
    monkeypatch.setenv(SALT_VARIABLE, SALT)
    fill(trail_in(LocalFileSystem(), str(tmp_path)))
    fill(trail_in(LocalFileSystem(), str(tmp_path), "DSR-43"), ("VERIFIED", "SURVIVORS"))
    return tmp_path


def damage(folder: Path, kind: str) -> str:
    (path,) = folder.glob(f"*-{kind}-*.json")
    raw = path.read_bytes()
    path.write_bytes(raw[:50] + bytes([raw[50] ^ 1]) + raw[51:])
    return path.name


def test_a_good_certificate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder / "DSR-42")]) == 0
    shown = capsys.readouterr().out
    assert "complete and unaltered; 5 records; seals checked" in shown
    assert "erasure: VERIFIED." in shown


@pytest.mark.parametrize("name", ["DSR-42", "DSR-43"])
def test_without_the_salt_the_origin_is_not_checked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(SALT_VARIABLE)
    assert main(["verify", str(folder / name)]) == NOT_CHECKED
    shown = capsys.readouterr().out
    assert "internally consistent; 5 records; origin not checked (no salt and no public key given)" in shown
    assert "unaltered" not in shown
    assert "erasure: VERIFIED" not in shown
    damage(folder / name, "accepted")
    assert main(["verify", str(folder / name)]) == DAMAGED


def test_what_is_open_is_neither_sound_nor_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(trail_in(LocalFileSystem(), str(folder), "DSR-44"), close=False)
    assert main(["verify", str(folder / "DSR-44")]) == OPEN
    shown = capsys.readouterr().out
    assert "certificate: open, and unaltered so far; 4 records; seals checked" in shown
    assert "erasure: NOT VERIFIED." in shown
    assert main(["verify", str(folder)]) == OPEN, "the worst of them"
    damage(folder / "DSR-43", "accepted")
    assert main(["verify", str(folder)]) == DAMAGED


def test_signatures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [str(tmp_path / name) for name in ("private.pem", "public.pem")]
    assert main(["keys", *keys]) == 0
    assert main(["keys", *keys]) == 2, "no key is ever replaced"
    signer = read_signer("key", keys[0])
    assert f"key_id {signer.key_id}" in capsys.readouterr().out
    fill(trail_in(LocalFileSystem(), str(folder), "DSR-44", signer=signer))
    monkeypatch.delenv(SALT_VARIABLE)
    assert main(["verify", str(folder / "DSR-44"), "--public-key", keys[1]]) == 0
    assert "complete and unaltered; 5 records; signatures checked" in capsys.readouterr().out
    assert main(["verify", str(folder / "DSR-42"), "--public-key", keys[1]]) == DAMAGED
    assert main(["verify", str(folder / "DSR-44"), "--public-key", keys[0]]) == 2, "that is the private one"
    assert "holds no public Ed25519 key" in capsys.readouterr().err
    assert main(["verify", str(folder / "DSR-44"), "--public-key", f"{keys[1]}.gone"]) == 2
    assert "nor a file that can be read" in capsys.readouterr().err


def test_several_salts(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    new = Pseudonyms(SALT[::-1])
    fill(trail_in(LocalFileSystem(), str(folder), "DSR-44", pseudonyms=new))
    assert main(["verify", str(folder)]) == DAMAGED
    monkeypatch.setenv(SALT_VARIABLE, f"{SALT[::-1]}  {SALT}\n")
    assert main(["verify", str(folder)]) == 0
    monkeypatch.setattr("sys.stdin", StringIO("ANN@example.org\n"))
    capsys.readouterr()
    assert main(["find", str(folder), "--kind", "email"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_survivor_is_told_though_the_certificate_is_sound(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder / "DSR-43")]) == 0
    assert "erasure: NOT VERIFIED." in capsys.readouterr().out


def test_all_certificates_of_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.count("request: DSR-4") == 2
    name = damage(folder / "DSR-43", "accepted")
    assert main(["verify", f"{folder}/"]) == 1
    shown = capsys.readouterr().out
    assert f"- {name}: " in shown
    assert shown.count("ALTERED OR INCOMPLETE") == 1


def test_a_record_stands_for_its_certificate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = (folder / "DSR-42").glob("000001-*")
    assert main(["verify", str(record)]) == 0
    damage(folder / "DSR-42", "verified")
    assert main(["verify", str(record)]) == 1


def test_a_file_of_records(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = b"".join(path.read_bytes() for path in sorted((folder / "DSR-42").iterdir()))
    lines = folder / "DSR-42.jsonl"
    lines.write_bytes(raw)
    assert main(["verify", str(lines)]) == 0
    lines.write_bytes(raw[:-1])
    assert main(["verify", str(lines)]) == 1
    assert "line 5" in capsys.readouterr().out


def test_a_url(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, SALT)
    fill(trail_in(MemoryFileSystem(), "/certificates"))
    assert main(["verify", "memory://certificates/DSR-42"]) == 0
    assert main(["verify", "memory://certificates"]) == 0
    MemoryFileSystem.store.clear()


def test_the_seals(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, SALT)
    assert main(["verify", str(folder / "DSR-42")]) == 0
    assert "; seals checked" in capsys.readouterr().out
    monkeypatch.setenv(SALT_VARIABLE, SALT[::-1])
    assert main(["verify", str(folder / "DSR-42")]) == 1
    assert SALT[::-1] not in capsys.readouterr().out
    monkeypatch.setenv(SALT_VARIABLE, "short")
    assert main(["verify", str(folder / "DSR-42")]) == 2


def test_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = folder / "out.html"
    assert main(["verify", str(folder / "DSR-43"), "--report", str(page)]) == 0
    assert "<strong>NOT VERIFIED</strong>" in page.read_text(encoding="utf-8")
    assert main(["verify", str(folder), "--report", str(page)]) == 2
    assert "2 certificates" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["nowhere", "nowhere/at/all.jsonl", "", "nosuchscheme://x/y"])
def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str) -> None:
    assert main(["verify", where if "://" in where else f"{tmp_path}/{where}"]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "value", "code", "count"),
    [
        ("email", "ann@example.org", 0, 2),
        ("email", " Ann@Example.ORG", 0, 2),
        ("distinct_id", "user-of-ann-1", 0, 2),
        ("distinct_id", "User-Of-Ann-1", 1, 0),
        ("uuid", ANN, 0, 2),
        ("uuid", ANN.upper().replace("-", ""), 0, 2),
        ("ticket", "DSR-42", 0, 2),
        ("ticket", "DSR-4", 1, 0),
        ("email", ANN, 1, 0),
        ("any", "ann@EXAMPLE.org", 0, 2),
        ("any", ANN, 0, 2),
        ("any", "DSR-43", 0, 1),
        ("any", "", 1, 0),
    ],
)
def test_an_identifier_is_found_again(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    value: str,
    code: int,
    count: int,
) -> None:
    monkeypatch.setenv(SALT_VARIABLE, SALT)
    monkeypatch.setattr("sys.stdin", StringIO(f"{value}\n"))
    assert main(["find", str(folder), "--kind", kind]) == code
    out = capsys.readouterr()
    assert len(out.out.splitlines()) == count
    assert not value or kind == "ticket" or value.strip() not in out.out + out.err or value == "DSR-43"


@pytest.mark.parametrize("value", ["JO\u0308RG@bücher.example", "jörg@XN--BCHER-KVA.example"])
def test_an_address_is_found_again_however_it_is_spelt(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    trail_in(LocalFileSystem(), str(folder), "DSR-45").append(
        "requested", identifiers=[("email", "Jörg@bücher.example")]
    )
    monkeypatch.setattr("sys.stdin", StringIO(f"{value}\n"))
    assert main(["find", str(folder)]) == 0
    monkeypatch.setattr("sys.stdin", StringIO("joerg@bücher.example\n"))
    assert main(["find", str(folder)]) == 1


def test_finding_needs_the_salt(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SALT_VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin", StringIO("DSR-42\n"))
    assert main(["find", str(folder)]) == 2
    assert SALT_VARIABLE in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", StringIO("DSR-42\n"))
    assert main(["find", str(folder), "--kind", "ticket"]) == 0, "a ticket stands there as it is"


def test_a_damaged_certificate_does_not_hide_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(folder / "DSR-42", "requested")
    monkeypatch.setattr("sys.stdin", StringIO("ann@example.org\n"))
    assert main(["find", str(folder)]) == 2
    out = capsys.readouterr()
    assert out.out.splitlines() == [str(folder / "DSR-43")]
    assert "not looked through: " in out.err


def test_it_runs_without_airflow(folder: Path) -> None:
    code = (
        "import sys, runpy\n"
        "sys.argv = ['audit', 'verify', sys.argv[1], '--report', sys.argv[2]]\n"
        "try:\n    runpy.run_module('airflow_provider_posthog.audit', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        "bad = {'airflow', 'requests', 'httpx', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done: Any = subprocess.run(
        [sys.executable, "-c", code, str(folder / "DSR-42"), str(folder / "page.html")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "erasure: VERIFIED." in done.stdout
