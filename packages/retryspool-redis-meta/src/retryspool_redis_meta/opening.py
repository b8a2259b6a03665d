"""What a factory needs the driver for: to open its store, and to remove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retryspool_redis_meta.address import Address, parse_address
from retryspool_redis_meta.backend import RedisMetaBackend
from retryspool_redis_meta.connections import Options
from retryspool_redis_meta.link import Link
from retryspool_redis_meta.pools import own_pools, pools_of
from retryspool_redis_meta.removal import remove_all
from retryspool_redis_meta.server import meet, open_store

if TYPE_CHECKING:
    from retryspool_redis_meta.factory import RedisMetaFactory

__all__ = ["open_backend", "remove_keys"]


def open_backend(factory: RedisMetaFactory) -> RedisMetaBackend:
    """Open the store; make it if it isn't there."""
    base = _base(factory)
    link = _link(factory)
    try:
        server = meet(link, fsync=factory.durability == "fsync")
        last_change = open_store(link)
    except BaseException:
        link.close()
        raise
    return RedisMetaBackend(link, base, server, last_change)


def remove_keys(factory: RedisMetaFactory) -> None:
    """Remove the store."""
    link = _link(factory)
    try:
        meet(link, fsync=factory.durability == "fsync")
        remove_all(link, _base(factory))
    finally:
        link.close()


def _base(factory: RedisMetaFactory) -> str:
    return f"{{{factory.prefix}}}"


def _link(factory: RedisMetaFactory) -> Link:
    f, base = factory, _base(factory)
    address = parse_address(f.url)
    if f.client is None:
        where, pools = _where(address, f.service), own_pools(_options(f, address))
    else:
        timeouts = {"timeout": f.timeout, "connect_timeout": f.connect_timeout}
        where, pools = "the server of the client passed in", pools_of(f.client, base, **timeouts)
    return Link(
        pools,
        where=where,
        base=base,
        timeout=f.timeout,
        max_connections=f.max_connections,
        fsync=f.durability == "fsync",
    )


def _options(factory: RedisMetaFactory, address: Address) -> Options:
    return Options(
        address=address,
        timeout=factory.timeout,
        connect_timeout=factory.connect_timeout,
        service=factory.service,
        sentinel_user=factory.sentinel_user,
        sentinel_password=factory.sentinel_password,
        tls_ca=factory.tls_ca,
        tls_certificate=factory.tls_certificate,
        tls_key=factory.tls_key,
        tls_verify=factory.tls_verify,
    )


def _where(address: Address, service: str) -> str:
    """Return what errors call the server: without user and password."""
    if address.path:
        return f"redis+unix://{address.path}"
    hosts = ",".join(f"{host}:{port}" for host, port in address.hosts)
    if address.by_sentinel:
        return f"redis+sentinel://{hosts}?service={service}"
    return f"{'rediss' if address.tls else 'redis'}://{hosts}/{address.database}"
