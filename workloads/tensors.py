"""One float32 matrix in safetensors, read and written in exactly one form.

Bytes that are hashed must have one form per value, and the general format has many (key order,
padding, metadata, duplicate keys); so the header is rebuilt and compared. numpy is imported by
the functions that need it: listing workloads does not.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_HEADER_BYTES: Final = 256
_HEADER: Final = re.compile(
    r'\{"([a-z]{1,32})":\{"dtype":"F32","shape":\[([0-9]{1,9}),([0-9]{1,9})\],'
    r'"data_offsets":\[0,[0-9]{1,12}\]\}\} *'
)


class Matrix(NamedTuple):
    """Where the values of a checked matrix lie in its bytes."""

    rows: int
    columns: int
    offset: int


def header(name: str, rows: int, columns: int) -> bytes:
    """Length and JSON header, padded with spaces to 8 bytes as the format asks."""
    text = (
        f'{{"{name}":{{"dtype":"F32","shape":[{rows},{columns}],'
        f'"data_offsets":[0,{rows * columns * 4}]}}}}'
    )
    text += " " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text.encode()


def encode_matrix(name: str, values: npt.NDArray[np.float32]) -> bytes:
    """Canonical bytes of a two-dimensional float32 array."""
    rows, columns = values.shape
    return header(name, rows, columns) + values.astype("<f4", copy=False).tobytes()


def locate_matrix(data: bytes, name: str) -> Matrix:
    """Check the form without touching the values; raise `ValueError` for any other."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > MAX_HEADER_BYTES:
        raise ValueError("no header of a single matrix")
    found = _HEADER.fullmatch(data[8 : 8 + length].decode("ascii", "replace"))
    if found is None or found[1] != name:
        raise ValueError(f"not one float32 matrix called {name}")
    rows, columns = int(found[2]), int(found[3])
    head = header(name, rows, columns)
    if not data.startswith(head) or len(data) != len(head) + rows * columns * 4:
        raise ValueError("not in canonical form")
    if rows == 0 or columns == 0:
        raise ValueError("an empty matrix")
    return Matrix(rows, columns, len(head))


def decode_matrix(data: bytes, name: str) -> Matrix:
    """Check form and values; raise `ValueError` unless canonical and finite."""
    import numpy as np

    place = locate_matrix(data, name)
    if not np.isfinite(np.frombuffer(data, "<f4", offset=place.offset)).all():
        raise ValueError("a value is not finite")
    return place


def matrix_values(data: bytes, name: str) -> npt.NDArray[np.float32]:
    """The values of a canonical, finite matrix; raise `ValueError` otherwise."""
    import numpy as np

    place = decode_matrix(data, name)
    flat: npt.NDArray[Any] = np.frombuffer(data, "<f4", offset=place.offset)
    return flat.reshape(place.rows, place.columns)


def convert(data: bytes, name: str, suffix: str) -> bytes | None:
    """As `.npy` (NumPy's own format, no pickle) or `.jsonl` (one array a line); None otherwise."""
    import io

    import numpy as np

    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, matrix_values(data, name), allow_pickle=False)
        return buffer.getvalue()
    if suffix == ".jsonl":
        # The shortest decimal text that gives the float32 back.
        rows = ("[" + ", ".join(map(str, row)) + "]" for row in matrix_values(data, name))
        return ("\n".join(rows) + "\n").encode()
    return None


def convert_json(data: bytes, suffix: str) -> bytes | None:
    """A canonical JSON document, indented, for `.json`; None otherwise."""
    if suffix != ".json":
        return None
    return json.dumps(json.loads(data), indent=2, ensure_ascii=False).encode() + b"\n"
