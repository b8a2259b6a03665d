"""RetrySpool's message records in Redis."""

import logging as _logging

from retryspool_redis_meta.backend import RedisMetaBackend
from retryspool_redis_meta.factory import RedisMetaFactory

__all__ = ["RedisMetaBackend", "RedisMetaFactory"]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # silent until somebody wants to hear
