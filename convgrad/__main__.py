"""`python -m convgrad` is the command `convgrad`."""

import sys

from convgrad.cli import main

if __name__ == "__main__":
    sys.exit(main())
