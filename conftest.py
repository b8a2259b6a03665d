"""What the tests of all packages share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tests" / "support"))  # pytest has it only if it found its settings here

pytest_plugins = ["servers"]
