"""How many events are in a folder's files: ``python -m benchmarks.clients.landed FOLDER`` prints rows and distinct."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

_ID = re.compile(rb'"id": ?"(01929[0-9a-f]{3}-[0-9a-f-]{27})"')


def main() -> None:
    """Count."""
    import pyarrow.parquet as pq

    ids: list[bytes] = []
    for path in sorted(Path(sys.argv[1]).rglob("*")):
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            names = [name for name in ("id", "uuid") if name in file.schema_arrow.names]
            if names and "/_dlt" not in str(path):
                ids.extend(str(value).encode() for value in file.read(names[:1]).column(0).to_pylist())
        elif path.suffix == ".jsonl" and path.parent == Path(sys.argv[1]):
            with path.open("rb") as lines:
                for line in lines:
                    ids.extend(_ID.findall(line)[:1])
    print(json.dumps({"rows": len(ids), "distinct": len(set(ids))}))


if __name__ == "__main__":
    main()
