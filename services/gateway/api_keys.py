"""Owns what an API key is: 256 random bits, and the hash that stands for it. Never keeps, logs or echoes one.

A plain hash is right here: slow, salted hashes (scrypt, Argon2) protect secrets that can be guessed, and 2^256 keys
cannot be, while a slow hash would cost every request its time and let anybody burn the gateway's with wrong keys.
"""

from __future__ import annotations

import re
import secrets
from hashlib import sha256

from shared.errors import InvalidApiKey

TENANT_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def make_key() -> str:
    return f"sk-castalia-{secrets.token_urlsafe(32)}"


def digest(key: str) -> bytes:
    """The SHA-256 that is kept in place of a key."""
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def digest_in(authorization: str | None) -> bytes:
    """The digest of the key in an Authorization header. Raises InvalidApiKey."""
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise InvalidApiKey("Give an API key in the header 'Authorization: Bearer KEY'.")
    return digest(key.strip())


def check_tenant_name(name: str) -> None:
    """Raises ValueError for a name that a file of keys could not hold."""
    if re.fullmatch(TENANT_NAME, name) is None:
        raise ValueError(
            "a tenant's name begins with a letter or digit and has 1 to 64 letters, digits, dots, dashes or underscores"
        )
