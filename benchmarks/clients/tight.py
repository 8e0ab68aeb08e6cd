"""The limit that is hard to go below: pages, one after the other, into Parquet, with nothing around it.

No count, no proof, no retry, no resuming, no manifest, no check of anything. ``python tight.py URL FOLDER [plain]``.
``plain`` leaves it at what such a loop costs where pandas is installed, as it is with Airflow.
"""

from __future__ import annotations

import http.client
import sys
from typing import Any
from urllib.parse import urlsplit


class _NoPandas:
    """pyarrow would import pandas to look at a list, which costs time and memory that no limit has to pay."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


if "plain" not in sys.argv[3:]:
    sys.meta_path.insert(0, _NoPandas)

import orjson  # noqa: E402, TID253
import pyarrow as pa  # noqa: E402, TID253
import pyarrow.parquet as pq  # noqa: E402, TID253

PAGE = 10_000
COLUMNS = ["uuid", "event", "distinct_id", "person_id", "timestamp", "created_at", "properties"]
ORDER = f" ORDER BY timestamp, toString(uuid) LIMIT {PAGE}"
SELECT = f"SELECT {', '.join(COLUMNS)} FROM events WHERE "
FIRST, NEXT = "timestamp > toDateTime({t})", "(timestamp, toString(uuid)) > (toDateTime({t}), {u})"
TIMES = ("timestamp", "created_at")
SCHEMA = pa.schema([(name, pa.timestamp("us", "UTC") if name in TIMES else pa.string()) for name in COLUMNS])


def main() -> None:
    """Read all events."""
    connection = http.client.HTTPConnection(urlsplit(sys.argv[1]).netloc, timeout=120)
    dictionaries = ["event", "distinct_id", "person_id"]
    where, values = FIRST, {"t": "2025-12-31T00:00:00Z"}
    with pq.ParquetWriter(f"{sys.argv[2]}/out.parquet", SCHEMA, compression="zstd", use_dictionary=dictionaries) as out:
        while True:
            query = {"kind": "HogQLQuery", "query": SELECT + where + ORDER, "values": values}
            headers = {"Authorization": "Bearer phx_bench", "Content-Type": "application/json"}
            connection.request("POST", "/api/projects/1/query/", orjson.dumps({"query": query}), headers)
            rows: list[list[Any]] = orjson.loads(connection.getresponse().read())["results"]
            if rows:
                texts = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
                arrays = [array.cast(field.type) for array, field in zip(texts, SCHEMA, strict=True)]
                out.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
            if len(rows) < PAGE:
                return
            where, values = NEXT, {"t": rows[-1][4], "u": rows[-1][0]}


if __name__ == "__main__":
    main()
