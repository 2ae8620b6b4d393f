"""Owns how one file is fetched from a package registry: where it is, and that its bytes are the named ones.

The registries are those that the machine's own tools use: pip's index (PIP_INDEX_URL, pip.conf), npm's registry
(NPM_CONFIG_REGISTRY, ~/.npmrc), a Debian mirror (CASTALIA_DEBIAN_MIRROR). Proxies are taken from the environment.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import urljoin

import httpx

from services.sources import Progress
from services.training.errors import PackageChanged, PackageUnavailable
from services.training.recipe import Package

PYPI = "https://pypi.org/simple"
NPM = "https://registry.npmjs.org"
DEBIAN = "https://deb.debian.org/debian"
_SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"  # https://peps.python.org/pep-0691/
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Registries:
    """Base URLs, without a slash at the end."""

    pypi: str = PYPI
    npm: str = NPM
    debian: str = DEBIAN


def configured(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> Registries:
    """The registries that this machine is set up for."""
    npmrc = (home or Path.home()) / ".npmrc"
    npm = next((value for name, value in environ.items() if name.lower() == "npm_config_registry"), None)
    if npm is None and npmrc.is_file():
        found = re.search(r"^\s*registry\s*=\s*(\S+)", npmrc.read_text(), re.MULTILINE)
        npm = found[1] if found else None
    return Registries(
        pypi=(environ.get("PIP_INDEX_URL") or _pip_index() or PYPI).rstrip("/"),
        npm=(npm or NPM).rstrip("/"),
        debian=environ.get("CASTALIA_DEBIAN_MIRROR", DEBIAN).rstrip("/"),
    )


def download(package: Package, registries: Registries, into: Path, progress: Progress) -> Path:
    """Fetch the package's file into a folder. Raises PackageUnavailable, or PackageChanged where its sum differs."""
    target = into / PurePosixPath(package.file).name
    try:
        with httpx.Client(follow_redirects=True, timeout=_TIMEOUT_S, verify=_certificates()) as client:
            _fetch(client, _url(client, package, registries), target, progress)
    except httpx.HTTPError as error:
        why = _without_credentials(str(error)) or type(error).__name__
        raise PackageUnavailable(f"{package.name} {package.version}: {why}") from error
    with target.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != package.sha256:
        target.unlink()
        raise PackageChanged(package.file, expected=package.sha256, got=got)
    return target


def _url(client: httpx.Client, package: Package, registries: Registries) -> str:
    match package.registry:
        case "npm":
            return f"{registries.npm}/{package.name}/-/{package.file}"
        case "debian":
            return f"{registries.debian}/pool/{package.file}"
        case "pypi":
            return _pypi_url(client, package, registries.pypi)


def _pypi_url(client: httpx.Client, package: Package, index: str) -> str:
    """Where the index has this very file: pip would choose one for this platform."""
    normal = re.sub(r"[-_.]+", "-", package.name).lower()
    page = client.get(f"{index}/{normal}/", headers={"accept": _SIMPLE_JSON}).raise_for_status()
    shown = _without_credentials(str(page.url))
    if _SIMPLE_JSON not in page.headers.get("content-type", ""):
        raise PackageUnavailable(f"{shown} did not answer with {_SIMPLE_JSON}; name another index in PIP_INDEX_URL")
    files = cast(dict[str, Any], page.json())["files"]
    for file in files:
        if file["filename"] == package.file:
            return urljoin(str(page.url), file["url"])
    raise PackageUnavailable(f"{shown} does not list {package.file}")


def _fetch(client: httpx.Client, url: str, target: Path, progress: Progress) -> None:
    with client.stream("GET", url) as answer, target.open("wb") as file:
        answer.raise_for_status()
        length = answer.headers.get("content-length")
        for piece in answer.iter_bytes(1 << 18):
            file.write(piece)
            progress(f"downloading {target.name}", answer.num_bytes_downloaded, int(length) if length else None)


def _without_credentials(text: str) -> str:
    """The text with the user and password left out of every URL: it goes to the terminal, and into logs."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def _certificates() -> Any:
    """The bundled authorities and the machine's own: mirrors are often signed by those."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _pip_index() -> str | None:
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours, without a shell
    return found.stdout.strip() or None
