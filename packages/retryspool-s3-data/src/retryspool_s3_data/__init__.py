"""RetrySpool's message payloads in S3 and stores that speak its protocol."""

import logging as _logging

from retryspool_s3_data.factory import S3DataFactory

__all__ = ["S3DataFactory"]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # silent until somebody wants to hear
