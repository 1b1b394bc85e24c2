"""Change the root of a store as one would who means to, with a checksum that is right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkpoint.format.checksums import checksum


def forge(store: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Apply a change to the attribute `checkpoint` of a directory, and make its checksum right."""
    path = store / "zarr.json"
    path = path if path.exists() else store / ".zattrs"
    document = json.loads(path.read_text())
    attributes = document["attributes"] if path.name == "zarr.json" else document
    attribute = attributes["checkpoint"]
    change(attribute)
    attribute["checksum"] = checksum({k: v for k, v in attribute.items() if k != "checksum"})
    path.write_text(json.dumps(document))
