"""`python -m tests.cluster`: run these tests as root, inside namespaces of their own, and write the report.

Nothing outside can be reached from inside, and whatever is left running ends with the outermost process. Options other
than those below go to pytest: `python -m tests.cluster -k upgrade`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from deploy.helm import HelmUnavailable, find_helm
from shared.config.settings import Settings

PROGRAMS = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "openssl": "openssl"}
PROGRAMS |= {"redis-server": "redis-server", "mount": "mount", "chroot": "coreutils"}
NAMESPACES = ("--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc", "--uts", "--mount")
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for cluster.md and cluster.json; without it, none is written")
    options, rest = parser.parse_known_args()
    if os.geteuid() != 0:
        raise SystemExit("tests.cluster makes namespaces, networks and mounts: run it as root")
    if missing := sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None}):
        raise SystemExit(f"tests.cluster needs these packages of Debian or Ubuntu: {' '.join(missing)}")
    try:
        helm = find_helm(Settings().home)  # here, where there may be a package index
    except HelmUnavailable as error:
        raise SystemExit(f"tests.cluster needs helm: {error}") from None
    compile_packages()
    environment = os.environ | {"CASTALIA_TEST_HELM": str(helm)}
    if options.out is not None:
        environment["CASTALIA_TEST_REPORT"] = str(options.out.resolve())
    command = [
        "unshare",
        *NAMESPACES,
        sys.executable,
        "-m",
        "pytest",
        str(HERE),
        "-m",
        "cluster",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
    ]
    os.execvpe("unshare", [*command, *rest], environment)


def compile_packages() -> None:
    """As an image has it. What a pod compiles goes with the pod, and that takes minutes of its start."""
    packages = Path(sysconfig.get_path("purelib"))
    if not (packages / "ray" / "__pycache__").exists():
        print("Compiling the packages of this environment, once: a minute or two ...", flush=True)  # noqa: T201
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, "-m", "compileall", "-q", "-j", "0", str(packages)]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)  # some are for other Pythons


if __name__ == "__main__":
    main()
