"""What Hypothesis makes messages of, and the ids that something confuses."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["HOSTILE_IDS", "TRICKY_IDS", "message_ids"]

# fmt: off
TRICKY_IDS = (
    *("A", "a", "a.", "a..", "a.json", "a.data", "a.tmp.b", "a.json.tmp.1", "a.lock", "a.A", "a.a", "CON", "con"),
    *("nul", "aux.txt", "COM1", "0", "00", "1e5", "a=b", "a+b", "a@b", "a-b", "a_b", "a.b"),
    *("x" * 200, "x" * 199 + "X", "x" * 199),
)
"""Ids that something confuses: file systems, suffixes, patterns, numbers."""

HOSTILE_IDS = (
    *("", ".", "..", ".a", "-a", "_a", "=a", "@a", "+a", "../a", "a/b", "a\\b", "/a", "a b", " a", "a ", "a\n", "\na"),
    *("a\0", "a:b", "a*", "a?", "%61", "a%2Fb", "a;b", "a'b", 'a"b', "a<b", "a|b", "~a", "a~", "ä", "aä", "ａ", "٣"),
    *("a\u200b", "\ud800", "x" * 201, "x" * 100_000),
)
"""What is no id."""
# fmt: on

message_ids = st.one_of(
    st.sampled_from(TRICKY_IDS),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._=@+-]{0,199}", fullmatch=True),
)
