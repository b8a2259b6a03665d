"""A mail as it follows DATA, from the bytes as they come."""

from __future__ import annotations

__all__ = ["Content"]

_END = b"\r\n.\r\n"


class Content:
    """Gathers a mail's bytes until the line that ends it. Only CR LF ends a line (RFC 5321, 2.3.8).

    :param limit: how large the mail may be; of one that is larger nothing is kept
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray(b"\r\n")  # as if a line had ended before it: the first one may be the last
        self.too_large = False

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; return those that follow the mail's end once that has come, None before."""
        searched = max(0, len(self._buffer) - len(_END) + 1)
        self._buffer += data
        end = self._buffer.find(_END, searched)
        rest: bytes | None = None
        if end >= 0:
            rest = bytes(self._buffer[end + len(_END) :])
            del self._buffer[end + 2 :]
        self.too_large = self.too_large or len(self._buffer) - 2 > self._limit
        if self.too_large:
            del self._buffer[: -len(_END) + 1]
        return rest

    def mail(self) -> bytes:
        """Return the whole mail, without what doubles a dot that begins a line (RFC 5321, 4.5.2)."""
        return bytes(self._buffer.replace(b"\r\n.", b"\r\n")[2:])
