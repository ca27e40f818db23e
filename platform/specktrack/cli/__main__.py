"""``python -m specktrack.cli``."""

import sys

from specktrack.cli.main import entry

sys.exit(entry())
