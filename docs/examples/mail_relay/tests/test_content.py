import pytest
from hypothesis import given
from hypothesis import strategies as st
from mail_relay.content import Content

DOTTED = st.text("\r\n.a", max_size=40).map(str.encode) | st.binary(max_size=60)


def as_sent(mail: bytes) -> bytes:
    """Return what a client sends after DATA."""
    return (b"\r\n" + mail).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


@given(DOTTED, DOTTED, st.integers(1, 9))
def test_a_mail_and_what_follows_it_come_apart_however_they_are_cut(mail: bytes, follows: bytes, size: int) -> None:
    mail += b"\r\n"
    sent = as_sent(mail) + follows
    content = Content(1000)

    rest = None
    taken = 0
    while rest is None:
        rest = content.feed(sent[taken : taken + size])
        taken += size

    assert (mail, follows, False) == (content.mail(), rest + sent[taken:], content.too_large)


@pytest.mark.parametrize("never", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b".\n", b"\r\n.\r", b"a.\r\n"])
def test_nothing_but_crlf_dot_crlf_ends_a_mail(never: bytes) -> None:
    assert Content(1000).feed(b"text" + never + b"text") is None


def test_of_a_mail_that_is_too_large_nothing_is_kept_but_its_end_is_found() -> None:
    content = Content(100)

    for _ in range(1000):
        assert content.feed(b"x" * 1000 + b"\r\n") is None
        assert len(content.mail()) < 10
    assert content.feed(b".") is None
    assert b"QUIT\r\n" == content.feed(b"\r\nQUIT\r\n")
    assert content.too_large


@pytest.mark.parametrize(("size", "too_large"), [(100, "no"), (101, "yes")])
def test_the_limit_is_the_largest_mail_that_is_taken(size: int, too_large: str) -> None:
    content = Content(100)

    content.feed(b"x" * (size - 2) + b"\r\n.\r\n")

    assert too_large == ("yes" if content.too_large else "no")
