"""The benchmark of downloads, on a small file."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import download


@pytest.mark.parametrize("link", download.LINKS)
def test_all_of_the_file_comes_by_every_way(tmp_path: Path, link: download.Link) -> None:
    found = download.run_all(1, 1, tmp_path, link)
    assert set(found) == set(download.WAYS)
    assert [run["missing"] for runs in found.values() for run in runs] == [0] * len(download.WAYS)
    assert len(download.rows_of(found, 1, link)) == len(download.WAYS)
    assert download.ratio(found, "socket") == 1
