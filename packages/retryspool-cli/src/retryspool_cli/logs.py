"""The log as lines of JSON, one for each record, with the fields that the record carries."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

__all__ = ["JsonFormatter", "log_as_json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; what else there is, somebody has put there for the log."""


class JsonFormatter(logging.Formatter):
    """Makes a line of JSON of a record, in ASCII: `time`, `level`, `logger`, `message`, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_as_json() -> None:
    """Let all that is logged be JSON, with a line for each message that is settled, whatever became of it."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter())
    ours = logging.getLogger("retryspool")
    ours.setLevel(min(logging.INFO, ours.getEffectiveLevel()))
    logging.getLogger("retryspool.queue.settler").setLevel(logging.DEBUG)  # there a delivery is a detail
