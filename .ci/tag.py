"""Check a release tag, `<distribution>-v<version>`, against the package that it names; print the distribution.

A release publishes one package, and what it publishes is what its tag says.
"""

import re
import sys
import tomllib
from pathlib import Path

PACKAGES = Path(__file__).parents[1] / "packages"


def distribution_of(tag: str, packages: Path = PACKAGES) -> str:
    """Return the distribution that a tag releases, or exit with the reason why it can't be released."""
    match = re.fullmatch(r"(?P<name>retryspool(?:-[a-z0-9]+)*)-v(?P<version>\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)", tag)
    if not match:
        sys.exit(f"tag {tag!r} is not <distribution>-v<version>, like retryspool-core-v0.1.0")
    name, version = match["name"], match["version"]
    if not (packages / name).is_dir():
        sys.exit(f"tag {tag!r} names {name!r}, and there is no packages/{name}")
    found = tomllib.loads((packages / name / "pyproject.toml").read_text())["project"]["version"]
    if found != version:
        sys.exit(f"tag {tag!r} says {version}, packages/{name}/pyproject.toml says {found}")
    if f"\n## [{version}]" not in (packages / name / "CHANGELOG.md").read_text():
        sys.exit(f"tag {tag!r}: packages/{name}/CHANGELOG.md has no heading '## [{version}]'")
    return name


if __name__ == "__main__":
    print(distribution_of(sys.argv[1]))
