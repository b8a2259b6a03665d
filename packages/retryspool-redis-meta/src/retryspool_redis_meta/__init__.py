"""RetrySpool's message records in Redis."""

import logging as _logging

from retryspool_redis_meta.factory import RedisMetaFactory

__all__ = ["RedisMetaFactory"]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # silent until somebody wants to hear
