"""Owns what Ray's autoscaler asks of a Kubernetes API server: one RayCluster, its patches, and its pods."""

from __future__ import annotations

import copy
import json
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMESPACE = "default"
ListPods = Callable[[], list[dict[str, Any]]]


class ClusterResource:
    """The RayCluster: its specification, as the operator and the autoscaler both change it."""

    def __init__(self, name: str, spec: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self._version = 1
        self._object = {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": copy.deepcopy(spec)}

    @property
    def object(self) -> dict[str, Any]:
        with self._lock:
            found = copy.deepcopy(self._object)
            found["metadata"]["resourceVersion"] = str(self._version)
        return found

    @property
    def groups(self) -> list[dict[str, Any]]:
        return self.object["spec"]["workerGroupSpecs"]

    def patch(self, operations: list[dict[str, Any]]) -> None:
        """JSON Patch (RFC 6902), of what the autoscaler sends: `replace`, of a place that may be missing."""
        with self._lock:
            for operation in operations:
                if operation["op"] != "replace":
                    raise ValueError(f"only `replace` is known; got {operation['op']}")
                *parents, last = operation["path"].strip("/").split("/")
                place: Any = self._object
                for part in parents:
                    place = place[int(part)] if isinstance(place, list) else place[part]
                place[last] = operation["value"]
            self._version += 1


class ApiServer:
    """Over TLS, as the autoscaler insists. Its certificate is its own authority."""

    def __init__(self, address: str, cluster: ClusterResource, pods: ListPods, folder: Path) -> None:
        certificate, key = folder / "ca.crt", folder / "ca.key"
        subject = ["-subj", "/CN=kubernetes", "-addext", f"subjectAltName=IP:{address}", "-days", "1", "-nodes"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
            timeout=60,
        )
        self.certificate = certificate.read_text()
        self._server = ThreadingHTTPServer((address, 0), _handler(cluster, pods))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, name="api server", daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(cluster: ClusterResource, pods: ListPods) -> type[BaseHTTPRequestHandler]:
    name = cluster.object["metadata"]["name"]
    cluster_path = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayclusters/{name}"
    pods_path = f"/api/v1/namespaces/{NAMESPACE}/pods"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == cluster_path:
                self._answer(cluster.object)
            elif path == pods_path:
                self._answer(
                    {"metadata": {"resourceVersion": cluster.object["metadata"]["resourceVersion"]}, "items": pods()}
                )
            elif path.startswith(f"{pods_path}/"):
                named = [pod for pod in pods() if pod["metadata"]["name"] == path.rpartition("/")[2]]
                self._answer(named[0] if named else {"code": 404}, 200 if named else 404)
            else:
                self._answer({"code": 404}, 404)

        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            cluster.patch(body)
            self._answer(cluster.object)

        def _answer(self, body: dict[str, Any], status: int = 200) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """The operator's log says what was changed."""

    return Handler
