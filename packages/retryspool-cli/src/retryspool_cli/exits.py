"""What the command's exit codes mean, and the error that carries one."""

from __future__ import annotations

__all__ = ["BROKEN_PIPE", "FAILED", "FINDINGS", "INTERRUPTED", "OK", "USAGE", "CommandError", "WrongUsageError"]

OK = 0
"""Done, and nothing is wrong."""
FAILED = 1
"""It could not be done, or not for every message that was named; what failed is on standard error."""
USAGE = 2
"""The command line, the environment or `retryspool.toml` asks for something that can't be; nothing was changed."""
FINDINGS = 3
"""`check` or `reconcile` worked, and found something."""
INTERRUPTED = 130
"""Ctrl-C."""
BROKEN_PIPE = 141
"""Whoever read the output stopped reading, as `head` does."""


class CommandError(Exception):
    """What the user is told in one line, and the exit code that goes with it."""

    exit_code = FAILED


class WrongUsageError(CommandError):
    """What was asked for can't be; nothing was changed."""

    exit_code = USAGE
