"""Make the digits that ship with convgrad out of scikit-learn's copy.

    python -m venv /tmp/digits && /tmp/digits/bin/pip install scikit-learn
    /tmp/digits/bin/python tools/make_digits.py            # write the two files
    /tmp/digits/bin/python tools/make_digits.py --check    # compare with those that are there

The files are plain IDX, not compressed, so that they have the same bytes wherever they are made.
scikit-learn is needed for this script alone, so it is no dependency of convgrad.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "convgrad" / "nn" / "data"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    same = True
    for name, content in made_files().items():
        path = FOLDER / name
        if check:
            same &= path.read_bytes() == content
        else:
            path.write_bytes(content)
        print(f"{name}  {len(content):,} bytes  sha256 {hashlib.sha256(content).hexdigest()}")
    if not same:
        print("the files in the package are others", file=sys.stderr)
    return 0 if same else 1


def made_files() -> dict[str, bytes]:
    """Both files' bytes: header 00 00 08 rank, sizes with the high byte first, then the data."""
    from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]

    digits = load_digits()
    return {
        "digits-images.idx3-ubyte": as_idx(digits.images),  # (1797, 8, 8), 0..16
        "digits-labels.idx1-ubyte": as_idx(digits.target),  # (1797,)
    }


def as_idx(values: np.ndarray) -> bytes:
    data = values.astype(np.uint8)
    if not np.array_equal(data, values):
        raise ValueError("scikit-learn's digits are no longer whole numbers that fit into a byte")
    return struct.pack(f">4B{data.ndim}I", 0, 0, 8, data.ndim, *data.shape) + data.tobytes()


if __name__ == "__main__":
    raise SystemExit(main())
