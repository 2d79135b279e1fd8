"""``python -m convcore`` is the command ``convcore``."""

import sys

from convcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
