"""Makes keys: `python -m retryspool_encryption new-key [FILE]`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from retryspool.errors import InvalidOptionError
from retryspool_encryption.keys import Key, new_key
from retryspool_encryption.sources import FileKeys

__all__ = ["add_key", "main"]

_HEAD = "# Keys of retryspool-encryption: the first encrypts, each decrypts.\n"


def add_key(path: Path, key: Key) -> int:
    """Put a key before those of a file, in one step, and make the file if it isn't there; return how many there were.

    :raises InvalidOptionError: the file is no key file, may be read by others, or has a key of this id
    """
    old = FileKeys(path)() if path.exists() else []
    if key.id in {each.id for each in old}:
        raise InvalidOptionError(f"key file {str(path)!r} has a key {key.id!r} already")
    text = path.read_text("utf-8").removeprefix(_HEAD) if old else ""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{_HEAD}{key.text}\n{text}")
            file.flush()
            if old:
                status = path.stat()
                os.fchmod(file.fileno(), status.st_mode & 0o777)
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return len(old)


def main(arguments: list[str] | None = None) -> int:
    """Be the command; return its exit code."""
    parser = argparse.ArgumentParser("python -m retryspool_encryption", description="Keys for encrypted spools.")
    command = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "new-key", help="make a key", description="Make a key, and put it first in a file; without one, print it."
    )
    command.add_argument("file", nargs="?", type=Path, metavar="FILE", help="made with mode 0600 if it isn't there")
    command.add_argument("--id", help="what the key is called; random by default")
    options = parser.parse_args(arguments)
    try:
        key = new_key(options.id)
        if options.file is None:
            print(key.text)  # noqa: T201 -- what was asked for
            return 0
        others = add_key(options.file, key)
    except (InvalidOptionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 -- a command's error
        return 1
    older = f"; {others} before it still decrypt" if others else ""
    print(f"key {key.id} is the first in {options.file}: it encrypts new messages{older}")  # noqa: T201 -- as above
    return 0


if __name__ == "__main__":
    sys.exit(main())
