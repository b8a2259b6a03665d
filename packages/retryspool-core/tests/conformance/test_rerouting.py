"""URLs whose server is reached through the suite's proxy."""

import pytest

from retryspool.conformance.rerouting import reroute
from retryspool.conformance.suite import Address


def through(host: str, port: int) -> Address:
    return f"proxy-of-{host.replace(':', '-')}", port + 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("x://server:10/0", "x://proxy-of-server:11/0"),
        ("x://user:p%40ss@server:10/0?a=b%20c", "x://user:p%40ss@proxy-of-server:11/0?a=b%20c"),
        ("x://[::1]:10", "x://proxy-of---1:11"),
        (
            "x://bucket/prefix?a=&endpoint=https://server:10/path&b=1",
            "x://bucket/prefix?a=&endpoint=https%3A%2F%2Fproxy-of-server%3A11%2Fpath&b=1",
        ),
    ],
)
def test_the_address_of_the_server_is_replaced_and_nothing_else(url: str, expected: str) -> None:
    assert expected == reroute(url, through)


@pytest.mark.parametrize("url", ["x:name", "x:///folder", "x://host/0", "x://bucket?endpoint=http://host/"])
def test_without_an_address_the_test_is_skipped_with_its_reason(url: str) -> None:
    with pytest.raises(pytest.skip.Exception, match="names no host and port"):
        reroute(url, through)
