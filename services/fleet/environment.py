"""Owns the environment that Ray and Ray Serve read when they are imported: switches, ports, files, tokens.

Each fleet has its own folder, ports and token, so that fleets on one machine never meet. All listen on 127.0.0.1 but
for the gateway, where a setting says otherwise, and each replica's gRPC port, which Ray binds to every address: it
takes no call without the fleet's token.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from services.app import DRAIN_MARGIN_S
from services.fleet.haproxy import Edge, haproxy_binary, most_connections, write_haproxy_script
from services.fleet.state import FleetError
from shared.config.settings import Settings

FIRST_PORT, LAST_PORT = 20000, 32000  # below Linux's ephemeral ports, which Ray's own servers take
INGRESS_PORTS = 200  # one a replica; a stopped one's is held back for ten minutes
PORT_BLOCK = INGRESS_PORTS + 3
MAX_MESSAGE = 64 * 2**20  # bytes of one message between gateway and replica
CODE = Path(__file__).parents[2]  # what holds the packages `services` and `shared`


@dataclass(frozen=True, slots=True)
class Ports:
    """The gateway's port, and the first of a block of `PORT_BLOCK` that is this fleet's alone."""

    gateway: int
    block: int


def choose_ports(settings: Settings) -> Ports:
    """Free ports, as far as can be told now. FleetError if the configured one is taken."""
    if settings.port and not _is_free(settings.host, settings.port):
        raise FleetError(f"port {settings.port} on {settings.host} is in use; choose another by CASTALIA_PORT")
    for _ in range(100):
        block = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT - PORT_BLOCK)
        if all(_is_free("", port) for port in range(block, block + PORT_BLOCK)):
            return Ports(gateway=settings.port or _any_free(settings.host), block=block)
    raise FleetError(f"found no {PORT_BLOCK} free ports in a row between {FIRST_PORT} and {LAST_PORT}")


def settings_environment(settings: Settings) -> dict[str, str]:
    """The settings as a child process reads them again."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {f"CASTALIA_{name.upper()}": _text(value) for name, value in values.items() if value is not None}


def ray_environment(settings: Settings, ports: Ports, folder: Path) -> dict[str, str]:
    """What to set before Ray is imported. Writes the files that it names into the folder: a token and a script."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH", "")])),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        # What a replica has started ends with it, however it ends: a process that is left would hold its device.
        "RAY_process_group_cleanup_enabled": "1",
        # Off Linux this is Ray's default. It makes every server of Ray's core listen on 127.0.0.1 alone.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": _flag(settings.haproxy),
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": _flag(settings.haproxy),
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": _flag(settings.throughput_optimized),
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": _flag(settings.grpc),
        # Otherwise Serve takes the standard error of replicas and buffers a thousand lines of it.
        "RAY_SERVE_LOG_TO_STDERR": "1",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "services.gateway.ingress:middlewares",
        "RAY_SERVE_SESSION_ID_HEADER_KEY": "x-session-id",  # one of the headers that the above keeps from Ray
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(MAX_MESSAGE),
        **(_haproxy_environment(settings, ports, folder) if settings.haproxy else {}),
    }


def _haproxy_environment(settings: Settings, ports: Ports, folder: Path) -> dict[str, str]:
    fallback, metrics, stats, first_ingress = range(ports.block, ports.block + 4)
    edge = Edge(metrics, stats, settings.header_timeout_s, settings.body_timeout_s)
    script = write_haproxy_script(folder, edge, haproxy_binary())
    files = folder / "h"  # short: HAProxy allows 97 bytes, and Ray puts a node's id of 56 below it
    longest_s = math.ceil(settings.timeout_s) + DRAIN_MARGIN_S
    return {
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(script),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        "RAY_SERVE_HAPROXY_MAXCONN": str(most_connections()),
        # No answer takes longer.
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(longest_s),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(files / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(files / "admin"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(files / "metrics"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(files),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(files / "state"),
        # A reloaded HAProxy cuts the streams that its old process still carries after this long.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(longest_s),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first_ingress),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first_ingress + INGRESS_PORTS - 1),
        # One machine, one HAProxy: a stopping gateway is taken out of it within a second.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _flag(on: bool) -> str:
    return "1" if on else "0"


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _any_free(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
