"""Owns who may call, and as which tenant: by a file of keys, or by the store. Never keeps, logs or echoes a key."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from services.gateway.api_keys import TENANT_NAME, check_tenant_name, digest, digest_in, make_key
from services.gateway.logs import Log
from services.gateway.store.database import Store
from services.gateway.store.directory import Directory
from services.gateway.store_keys import StoreKeys
from services.gateway.tenants import Tenant
from shared.config.settings import Settings
from shared.errors import InvalidApiKey

_LINE = re.compile(rf"({TENANT_NAME}):([0-9a-f]{{64}})")
Stamp = tuple[int, int, int]


class KeyFileError(Exception):
    """The file of keys cannot be read, or a line is not `name:sha256`; the message never holds a line's text."""


def new_key(name: str) -> tuple[str, str]:
    """Make a key for a tenant: the key itself, shown once, and the line for the file of keys.

    Raises ValueError for a name that the file could not hold.
    """
    check_tenant_name(name)
    key = make_key()
    return key, f"{name}:{digest(key).hex()}"


class Keys(Protocol):
    """Who may call."""

    def tenant_of(self, authorization: str | None) -> Tenant:
        """The tenant of an Authorization header. Raises InvalidApiKey, which never says why a key is wrong."""
        ...

    def tenant_named(self, name: str) -> Tenant | None:
        """The tenant as it is now, for work that it left here; None if it may not call any more."""
        ...

    async def start(self) -> None:
        """Begin to follow changes. What raises here must keep the gateway from starting."""
        ...

    async def close(self) -> None: ...


class Keyring:
    """The keys in a file, read again when the file changes. A tenant may have several lines, to rotate its keys."""

    def __init__(self, path: Path, log: Log) -> None:
        """Raises KeyFileError: a gateway does not start with keys that it cannot read."""
        self._path = path
        self._log = log
        self._stamp = _stamp(path)
        self._tenants = _read(path)

    def tenant_of(self, authorization: str | None) -> Tenant:
        """The tenant of an Authorization header. Raises InvalidApiKey, which never says why a key is wrong."""
        wanted = digest_in(authorization)
        self._refresh()
        tenant: str | None = None
        for known, name in self._tenants.items():  # every key, however early one matches: the time tells nothing
            if hmac.compare_digest(known, wanted):
                tenant = name
        if tenant is None:
            raise InvalidApiKey("The API key is not valid here.")
        return _trusted(tenant)

    def tenant_named(self, name: str) -> Tenant | None:
        self._refresh()
        return _trusted(name) if name in self._tenants.values() else None

    async def start(self) -> None:
        """Each look-up looks at the file's time."""

    async def close(self) -> None:
        """Nothing is held."""

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


def make_keys(settings: Settings, store: Store, log: Log, *, now: Callable[[], float] = time.time) -> Keys:
    """The file of keys if there is one, else the store's; on loopback alone these may let everyone in.

    Raises KeyFileError.
    """
    if settings.api_keys_file is not None:
        return Keyring(settings.api_keys_file, log)
    return StoreKeys(Directory(store, now=now), log, is_open=is_loopback(settings.host), now=now)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _trusted(name: str) -> Tenant:
    """Whoever keeps a file of keys tells tenants apart, but hides nothing from them."""
    return Tenant(name, is_operator=True)


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
