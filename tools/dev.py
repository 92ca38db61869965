"""One command for every chore: python tools/dev.py run | test | check | format | bench | lowest.

Needs nothing but Python's standard library.
This file alone is written so that even a very old Python can read it and say what is wrong.
"""

import os
import sys


def newer_pythons():
    """The python3.x commands on PATH that are new enough."""
    names = ["python3." + str(minor) for minor in range(20, 10, -1)]
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return [n for n in names if any(os.access(os.path.join(f, n), os.X_OK) for f in folders)]


def too_old():
    """The message for a Python below 3.11."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    better = (newer_pythons() + ["/path/to/python3.11"])[0]
    return (
        "convgrad needs Python 3.11 or newer; this is Python " + version + " at " + sys.executable
        + "\nwith make:     make run PYTHON=" + better
        + "\nwithout make:  " + better + " tools/dev.py run"
    )  # fmt: skip


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit(too_old())
    from tasks import main

    sys.exit(main())
