"""What this distribution offers to RetrySpool."""

from retryspool import hookimpl
from retryspool_redis_meta.factory import RedisMetaFactory

__all__ = ["retryspool_meta_factories"]


@hookimpl
def retryspool_meta_factories() -> list[type[RedisMetaFactory]]:
    """Offer the `redis` backend."""
    return [RedisMetaFactory]
