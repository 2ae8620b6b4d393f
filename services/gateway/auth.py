"""Owns API keys: who may call, and as which tenant. Never keeps, logs or echoes a key.

A key is 256 random bits, and the file holds its SHA-256. A plain hash is right here: slow, salted hashes (scrypt,
Argon2) protect secrets that can be guessed, and 2^256 keys cannot be, while a slow hash would cost every request its
time and let anybody burn the gateway's with wrong keys.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

from services.gateway.logs import Log
from shared.config.settings import Settings
from shared.errors import InvalidApiKey

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}):([0-9a-f]{64})")
Stamp = tuple[int, int, int]


class KeyFileError(Exception):
    """The file of keys cannot be read, or a line is not `name:sha256`; the message never holds a line's text."""


class UnprotectedHost(Exception):
    """The gateway would listen beyond this machine without keys."""


def new_key(name: str) -> tuple[str, str]:
    """Make a key for a tenant: the key itself, shown once, and the line for the file of keys.

    Raises ValueError for a name that the file could not hold.
    """
    key = f"sk-castalia-{secrets.token_urlsafe(32)}"
    line = f"{name}:{sha256(key.encode()).hexdigest()}"
    if _LINE.fullmatch(line) is None:
        raise ValueError("a key's name has 1 to 64 letters, digits, dots, dashes or underscores")
    return key, line


class Keyring:
    """The keys in a file, read again when the file changes. A tenant may have several lines, to rotate its keys."""

    def __init__(self, path: Path, log: Log) -> None:
        """Raises KeyFileError: a gateway does not start with keys that it cannot read."""
        self._path = path
        self._log = log
        self._stamp = _stamp(path)
        self._tenants = _read(path)

    def tenant_of(self, authorization: str | None) -> str:
        """The tenant of an Authorization header. Raises InvalidApiKey, which never says why a key is wrong."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise InvalidApiKey("Give an API key in the header 'Authorization: Bearer KEY'.")
        self._refresh()
        digest = sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        tenant: str | None = None
        for known, name in self._tenants.items():  # every key, however early one matches: the time tells nothing
            if hmac.compare_digest(known, digest):
                tenant = name
        if tenant is None:
            raise InvalidApiKey("The API key is not valid here.")
        return tenant

    def _refresh(self) -> None:
        """Read a changed file. A file that cannot be read leaves the keys as they were: a bad edit locks nobody out."""
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._tenants = _read(self._path)
            self._log.info("api_keys_read", keys=len(self._tenants))
        except KeyFileError as error:
            self._log.error("api_keys_unreadable", cause=str(error))


def make_keyring(settings: Settings, log: Log) -> Keyring | None:
    """The keys that the settings ask for; None, only on loopback, lets everyone in.

    Raises UnprotectedHost or KeyFileError.
    """
    if settings.api_keys_file is not None:
        return Keyring(settings.api_keys_file, log)
    if not is_loopback(settings.host):
        raise UnprotectedHost(
            f"CASTALIA_HOST={settings.host} is reachable from other machines: set CASTALIA_API_KEYS_FILE, "
            "or listen on 127.0.0.1"
        )
    return None


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError as error:
        raise KeyFileError(f"cannot read the file of API keys: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> Mapping[bytes, str]:
    try:
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"cannot read the file of API keys: {type(error).__name__}") from None
    tenants: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise KeyFileError(f"line {number} of the file of API keys is not 'name:sha256 in hexadecimal'")
        tenants[bytes.fromhex(match[2])] = match[1]
    return tenants
