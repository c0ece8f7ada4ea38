"""`python -m eardrop` is `eardrop`, and both begin here: Ctrl-C ends them quietly from the first line on."""

import sys

try:
    from eardrop.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
