"""Offers the middleware under the names `aes-256-gcm` and `chacha20-poly1305`."""

from retryspool.middleware import Middleware
from retryspool.plugins import hookimpl
from retryspool_encryption.middleware import Aes256Gcm, ChaCha20Poly1305

__all__ = ["retryspool_middlewares"]


@hookimpl
def retryspool_middlewares() -> list[type[Middleware]]:
    """Offer both."""
    return [Aes256Gcm, ChaCha20Poly1305]
