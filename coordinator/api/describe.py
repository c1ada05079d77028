"""Write the committed description of the API: `python -m coordinator.api.describe`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from coordinator.api.app import OPENAPI_FILE, Web, openapi
from coordinator.metrics import Metrics
from coordinator.store.reader import Reader
from coordinator.store.store import Store


def main() -> None:
    """Describe the routes as they are now."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "empty.db")
        web = Web(Reader(store.path), Metrics(), lambda: 0.0)
        OPENAPI_FILE.write_text(json.dumps(openapi(web), indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
