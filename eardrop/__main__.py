"""`python -m eardrop` is `eardrop`."""

import sys

from eardrop.cli.main import main

sys.exit(main())
