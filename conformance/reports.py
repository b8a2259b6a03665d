"""Run the suite on our backends and write the reports of docs/conformance: `python conformance/reports.py [NAME …]`.

The names are those of the files beside this one: `fs` is `test_fs.py`. Servers are started from wheels. With the
profile `ci`, the default, each takes some minutes. Ends with 1 if a clause is broken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPORTS = HERE.parent / "docs" / "conformance"
NOT_OURS = {"mutants", "middleware_mutants", "sqlite"}
"""What has bugs by intention, and the store that only tests have."""
NAMES = sorted({path.stem.removeprefix("test_") for path in HERE.glob("test_*.py")} - NOT_OURS)


def report(name: str, profile: str) -> bool:
    """Write the report of one backend; tell whether it keeps the contract."""
    command = [
        *(sys.executable, "-m", "pytest", f"conformance/test_{name}.py", "-q", "-p", "no:randomly", "--timeout=900"),
        *(f"--retryspool-profile={profile}", f"--retryspool-report={REPORTS / name}.md"),
    ]
    return subprocess.run(command, cwd=HERE.parent, check=False).returncode == 0


def main() -> int:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--profile", default="ci", choices=("quick", "ci", "nightly"))
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    REPORTS.mkdir(exist_ok=True)
    kept = [report(name, options.profile) for name in options.names or NAMES]
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
