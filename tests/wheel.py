"""Builds what is published and tries it as users get it: ``python -m tests.wheel``.

Built twice, the wheel is the same to the byte, and so is the one that is built from the sdist. It is installed, not
linked, into an empty environment of each Airflow that tests/matrix.py names, first without extras and then with all of
them; tests/wheel_probe.py looks around there. On the newest, the tests that matter most run against it, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.parser import Parser
from pathlib import Path

from tests.matrix import HERE, MATRIX, Entry, dependencies, extras, find_python

PACKAGE = "airflow_provider_posthog"
#: How many environments are tried at once.
AT_ONCE = 2
#: Run against the installed wheel: what Airflow finds of it, its links, its hook, and whole DAGs.
ESSENTIALS = (
    "tests/test_provider_info.py",
    "tests/test_links.py",
    "tests/hooks/test_keys.py",
    "tests/airflow/test_first_dags.py",
    "tests/airflow/test_load_examples.py",
)
#: Tracked by git, and of no use in an sdist.
NOT_IN_SDIST = (".github/",)


class Wrong(SystemExit):
    """Something about the build is not as it should be."""


def main(names: list[str]) -> int:
    """Run every check, on the Airflows of these cells, or of all; return 0 if all passed."""
    with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
        work = Path(folder)
        wheel, sdist = build(work)
        check_wheel(wheel)
        check_sdist(sdist)
        run("twine check --strict", [*uv(), "tool", "run", "-q", "twine", "check", "--strict", str(wheel), str(sdist)])
        entries = [entry for entry in MATRIX if entry.name in names or (not names and not entry.lowest)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda entry: install_and_look(entry, wheel, work / entry.name), entries))
        check_suite(entries[-1], wheel, sdist, work / entries[-1].name)
        audit(work / entries[-1].name)
    return 0


def uv() -> list[str]:
    """Return how to call uv, which `make` installs."""
    return [sys.executable, "-m", "uv"]


def say(text: str) -> None:
    """Print a line at once: the checks run side by side."""
    print(f"wheel: {text}", flush=True)


def run(what: str, command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that has to succeed, and say that it did.

    :param what: what it is, for a reader.
    :param command: the program and its arguments.
    :param cwd: where to run it.
    :param env: what to add to the environment.
    :returns: what it printed.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise Wrong(f"wheel: FAILED: {what}\n{done.stdout[-20_000:]}")
    say(f"{what}: ok")
    return done.stdout


def tracked() -> list[str]:
    """Return the files of the checkout, by their paths in it; also new ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HERE,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    return sorted(path for path in set(listed) if path and (HERE / path).is_file())


def copy_of_the_checkout(folder: Path) -> Path:
    """Copy what git tracks, with the rights that a fresh checkout has; whatever else lies around must not get in."""
    for path in tracked():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / path, target)
        target.chmod(0o755 if os.access(HERE / path, os.X_OK) else 0o644)
    return folder


def build(work: Path) -> tuple[Path, Path]:
    """Build twice, in two places, at two times of the file system and in two time zones.

    :param work: a folder for it.
    :returns: the wheel and the sdist.
    """
    commit = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=HERE, check=True, capture_output=True, text=True)
    built = []
    for place, zone in (("one", "UTC"), ("another", "Asia/Kathmandu")):
        source, out = copy_of_the_checkout(work / place / "source"), work / place
        environment = {"SOURCE_DATE_EPOCH": commit.stdout.strip(), "TZ": zone, "PYTHONHASHSEED": str(len(built))}
        # uv builds the sdist of the folder, and with --wheel the wheel of the folder, too
        run(
            f"build {place}",
            [*uv(), "build", "-q", "--sdist", "--wheel", "--out-dir", str(out), str(source)],
            env=environment,
        )
        built.append((only(out, "*.whl"), only(out, "*.tar.gz")))
    (wheel, sdist), (again, sdist_again) = built
    unpacked = work / "unpacked"
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked)  # our own, made a second ago
    environment = {"SOURCE_DATE_EPOCH": commit.stdout.strip()}
    source = only(unpacked, "*")
    run(
        "build from the sdist",
        [*uv(), "build", "-q", "--wheel", "--out-dir", str(unpacked), str(source)],
        env=environment,
    )
    if not wheel.read_bytes() == again.read_bytes() == only(unpacked, "*.whl").read_bytes():
        raise Wrong("wheel: FAILED: two builds differ, or the one from the sdist does")
    if members(sdist) != members(sdist_again):
        raise Wrong("wheel: FAILED: two sdists differ")
    say("three builds of the wheel are the same to the byte; both sdists hold the same (setuptools dates their files)")
    return wheel, sdist


def only(folder: Path, pattern: str) -> Path:
    """Return the one path of a pattern."""
    (found,) = folder.glob(pattern)
    return found


def members(sdist: Path) -> dict[str, tuple[int, bytes]]:
    """Return the files of an sdist by their paths in it, each with its rights and bytes."""
    found: dict[str, tuple[int, bytes]] = {}
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                found[member.name.partition("/")[2]] = (member.mode, content.read())
    return found


def check_wheel(wheel: Path) -> None:
    """See that a wheel holds the package, all of it and nothing else, and says about itself what setup.cfg says."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = [name.partition("/")[0] for name in names if name.endswith("/METADATA")]
        metadata = Parser().parsestr(archive.read(f"{about}/METADATA").decode())
        entry_points = archive.read(f"{about}/entry_points.txt").decode()
    expected = {path for path in tracked() if path.startswith(f"{PACKAGE}/")}
    inside = {name for name in names if not name.startswith(f"{about}/")}
    differing = sorted(inside ^ expected)
    problems = [
        *(f"{name} is {'not ' if name in expected else ''}in it" for name in differing),
        *(f"{name} is missing" for name in ("py.typed",) if f"{PACKAGE}/{name}" not in names),
        *(f"no {name}" for name in ("licenses/LICENSE", "RECORD", "WHEEL") if f"{about}/{name}" not in names),
        *(
            f"no {field}"
            for field in ("Summary", "Author", "Description-Content-Type", "Requires-Python")
            if not metadata[field]
        ),
        *(f"extra {name} is missing" for name in set(extras()) - set(metadata.get_all("Provides-Extra", []))),
    ]
    if f"provider_info = {PACKAGE}.provider_info:get_provider_info" not in entry_points:
        problems.append("Airflow's entry point is missing")
    if len(metadata.get_all("Project-URL", [])) < 4 or not str(metadata.get_payload()).startswith("# "):
        problems.append("links or the README are missing")
    if problems:
        raise Wrong(f"wheel: FAILED: contents: {'; '.join(problems)}")
    say(f"{len(inside)} files, all of the package and nothing else; {wheel.stat().st_size // 1024} KiB")


def check_sdist(sdist: Path) -> None:
    """See that an sdist holds all that git tracks: tests, docs, examples and what runs them."""
    made = re.compile(r"PKG-INFO|setup\.cfg|[^/]+\.egg-info/.+")
    inside = {name for name in members(sdist) if not made.fullmatch(name)}
    expected = {path for path in tracked() if not path.startswith(NOT_IN_SDIST) and not made.fullmatch(path)}
    if inside != expected:
        raise Wrong(f"wheel: FAILED: of the sdist: {', '.join(sorted(inside ^ expected))}; see MANIFEST.in")
    say(f"the sdist holds {len(inside)} files: all that git tracks")


def install_and_look(entry: Entry, wheel: Path, folder: Path) -> None:
    """Install the wheel into an empty environment, look around, add the extras, and look again.

    :param entry: which Airflow, of tests/matrix.py.
    :param wheel: the wheel.
    :param folder: for the environment.
    """
    version, python = find_python(entry.pythons)
    venv = folder / "venv"
    run(f"{entry.name}: an environment", [*uv(), "venv", "-q", "--python", python, str(venv)])
    install = [*uv(), "pip", "install", "-q", "--python", str(venv / "bin" / "python")]
    then = ["--exclude-newer", entry.before] if entry.before else []
    run(f"{entry.name} on Python {version}: {entry.airflow}", [*install, *then, entry.airflow])
    for wanted in ([], extras()):
        what = f"{entry.name} with {'every extra' if wanted else 'no extra'}"
        ours = f"{PACKAGE.replace('_', '-')}[{','.join(wanted)}] @ {wheel.as_uri()}"
        run(f"{what}: install", [*install, entry.airflow, ours])
        run(f"{what}: consistent", [*uv(), "pip", "check", "-q", "--python", str(venv / "bin" / "python")])
        look_around(venv, folder, what, bool(wanted))


def look_around(venv: Path, folder: Path, what: str, extras: bool) -> None:
    """Run tests/wheel_probe.py in an environment, from a folder that has nothing of ours."""
    place = folder / "empty"
    place.mkdir(exist_ok=True)
    code = (HERE / "tests" / "wheel_probe.py").read_text(encoding="utf-8")
    arguments = ["with" if extras else "without"]
    python = str(venv / "bin" / "python")
    environment = {
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PYTHONPATH": "",
        "COLUMNS": "300",
    }
    out = run(f"{what}: looked around", [python, "-W", "ignore", "-c", code, *arguments], cwd=place, env=environment)
    for line in out.splitlines():
        if line.startswith("   "):  # the rest is Airflow's log
            say(f"{what}: {line.strip()}")


def check_suite(entry: Entry, wheel: Path, sdist: Path, folder: Path) -> None:
    """Run the essential tests of the sdist against the installed wheel, with no package of ours beside them."""
    place = folder / "sdist"
    with tarfile.open(sdist) as archive:
        archive.extractall(place)  # our own
    source = only(place, "*")
    shutil.rmtree(source / PACKAGE)
    python = str(folder / "venv" / "bin" / "python")
    ours = f"{PACKAGE.replace('_', '-')} @ {wheel.as_uri()}"
    install = [
        *uv(),
        "pip",
        "install",
        "-q",
        "--python",
        python,
        entry.airflow,
        ours,
        "--group",
        f"{source / 'pyproject.toml'}:test",
    ]
    run(f"{entry.name}: what tests need", install)
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(AT_ONCE), "--dist", "loadfile"]
    out = run(f"{entry.name}: tests against the wheel", [*pytest, *ESSENTIALS], cwd=source)
    say(out.strip().splitlines()[-1])


def audit(folder: Path) -> None:
    """Ask for known holes in what we name in setup.cfg, in the releases that users get today."""
    python = folder / "venv" / "bin" / "python"
    frozen = subprocess.run(
        [*uv(), "pip", "freeze", "-q", "--python", str(python)], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    named = {re.split(r"[\[<>=]", line)[0].lower() for line in dependencies()}
    pinned = [line for line in frozen if line.partition("==")[0].lower() in named]
    listed = folder / "direct.txt"
    listed.write_text("\n".join(pinned))
    command = [
        *uv(),
        "tool",
        "run",
        "-q",
        "pip-audit",
        "--progress-spinner",
        "off",
        "--no-deps",
        "--disable-pip",
        "-r",
        str(listed),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode and "Found " not in done.stderr:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        say(f"NOT CHECKED for known holes: pip-audit got no answer ({reason[:200]})")
    elif done.returncode:
        raise Wrong(f"wheel: FAILED: known holes\n{done.stdout}{done.stderr}")
    else:
        say(f"no known hole in the {len(pinned)} direct dependencies")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
