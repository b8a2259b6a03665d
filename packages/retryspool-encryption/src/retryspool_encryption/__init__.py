"""Authenticated encryption of RetrySpool's message payloads and headers: AES-256-GCM and ChaCha20-Poly1305."""

import logging as _logging

from retryspool_encryption.keys import Key, new_key
from retryspool_encryption.middleware import Aes256Gcm, ChaCha20Poly1305

__all__ = ["Aes256Gcm", "ChaCha20Poly1305", "Key", "new_key"]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # silent until somebody wants to hear
