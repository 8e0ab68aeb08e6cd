"""Counting the lines of files while they come."""

from __future__ import annotations

import gzip
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.download.file_download import BrokenFileError, Rows

MIB = 1024 * 1024
# repeated so often that the whole is around what is unpacked at once
TEXTS = st.tuples(st.sampled_from([b"", b"\n", b"{}\n", b"{}", b"\n{}"]), st.sampled_from([0, 1, 9, MIB, MIB + 1])).map(
    lambda found: found[0] * found[1]
)


@given(st.lists(TEXTS, min_size=1, max_size=3), st.booleans(), st.integers(0, 1000))
def test_any_file_in_any_pieces(texts: list[bytes], gzipped: bool, seed: int) -> None:
    whole, chance = b"".join(texts), random.Random(seed)
    stored = b"".join(map(gzip.compress, texts)) if gzipped else whole
    rows, at = Rows(gzipped=gzipped), 0
    while at < len(stored):
        size = chance.choice([1, 7, 1000, MIB])
        rows.feed(stored[at : at + size])
        at += size
    assert rows.total() == whole.count(b"\n") + bool(whole and not whole.endswith(b"\n"))


def test_a_file_that_unpacks_a_thousandfold() -> None:
    packed, rows = gzip.compress(b"{}\n" * (20 * MIB)), Rows(gzipped=True)
    tracemalloc.start()
    try:
        rows.feed(packed)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows.total() == 20 * MIB
    assert most < 8 * MIB


@pytest.mark.parametrize("size", [0, 1, 10, 17])
def test_cut(size: int) -> None:
    rows = Rows(gzipped=True)
    rows.feed(gzip.compress(b"{}\n")[:size])
    with pytest.raises(BrokenFileError, match="no end"):
        rows.total()


def test_something_behind_the_end() -> None:
    rows = Rows(gzipped=True)
    with pytest.raises(BrokenFileError):
        rows.feed(gzip.compress(b"{}\n") + b"more")
