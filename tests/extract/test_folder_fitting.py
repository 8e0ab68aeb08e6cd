"""Values go into the types of a folder's other files as they are, or not at all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.folder_fitting import FolderFit

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("coming", "known", "fit", "misfit"),
    [
        (pa.float64(), pa.decimal128(6, 2), [0.1, 12.5, -2.0], [1.239, 1e9, NAN, INF]),
        (pa.float64(), pa.float32(), [0.5, NAN, INF], [0.1, 1e300]),
        (pa.float64(), pa.int64(), [2.0], [1.5, NAN, 1e30]),
        (pa.int64(), pa.float64(), [5, 2**53], [2**53 + 1]),
        (pa.int64(), pa.int8(), [-128, 127], [128]),
        (pa.uint64(), pa.int64(), [5], [2**63]),
        (pa.decimal128(10, 2), pa.int64(), [Decimal("2.00")], [Decimal("1.25")]),
        (pa.decimal128(20, 2), pa.float64(), [Decimal("0.10")], [Decimal("12345678901234567.25")]),
        (pa.string(), pa.int64(), ["5", "-5", "0"], ["5.0", "x", "", "007", "+5", "-0"]),
    ],
    ids=str,
)
def test_a_value_that_would_be_changed_does_not_fit(
    coming: pa.DataType, known: pa.DataType, fit: list[Any], misfit: list[Any]
) -> None:
    schema = FolderFit("evolve", {"v": str(known)}).schema(pa.schema([("v", coming)]))
    assert schema.field("v").type == known
    made = FolderFit("evolve", {"v": str(known)}).fit(pa.table({"v": pa.array([*fit, None], coming)}), schema)
    assert made.num_rows == len(fit) + 1
    for value in misfit:  # also beside others that fit
        for values in ([value], [*fit, value]):
            rows = pa.table({"v": pa.array(values, coming)})
            with pytest.raises(PostHogSettingsError, match="v does not fit"):
                FolderFit("evolve", {"v": str(known)}).fit(rows, schema)
            aside = FolderFit("quarantine", {"v": str(known)})
            assert (aside.fit(rows, schema).num_rows, len(aside.rejects)) == (len(values) - 1, 1)
