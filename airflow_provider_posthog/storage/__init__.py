"""Files, staging and manifests on any file system that fsspec knows."""
