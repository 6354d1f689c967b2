"""`python -m api.cli` is the same as `bitnexus`."""

import sys

from api.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
