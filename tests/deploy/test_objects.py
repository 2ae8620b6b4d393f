"""Rendered objects fit together: selectors find pods, ports and Secrets exist, policies leave open what they should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.serve._private.constants import PROXY_MIN_DRAINING_PERIOD_S

from services.gateway.state import PING_TIMEOUT_S
from tests.deploy.chart import (
    AIRGAPPED,
    GPU,
    HA,
    MIXED,
    Chart,
    Manifest,
    all_pods,
    containers,
    merged,
    of_kind,
    scenarios,
)

NAMESPACE = "default"
GATEWAY_PORT, DASHBOARD, RAY_METRICS, HAPROXY_METRICS = 8000, 8265, 8080, 9101
# Ray's GCS, client and raylets, HAProxy's pages and its other frontend, and the replicas' own servers.
WITHIN = (6379, 10001, 8404, 8500, 30000, 30001, 31000, 40000)
# Who asks, by the labels of the pod and of its namespace.
STRANGER = ({"app": "stranger"}, {"kubernetes.io/metadata.name": "elsewhere"})
OPERATOR = ({"app.kubernetes.io/name": "kuberay-operator"}, {"kubernetes.io/metadata.name": "kuberay"})
PROMETHEUS = ({"app.kubernetes.io/name": "prometheus"}, {"kubernetes.io/metadata.name": "monitoring"})
Who = tuple[dict[str, str], dict[str, str]]


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    listed = all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))
    return listed and selector.get("matchLabels", {}).items() <= labels.items()


def labels_of(manifests: tuple[Manifest, ...]) -> dict[str, dict[str, str]]:
    return {name: pod["metadata"]["labels"] for name, pod in all_pods(manifests).items()}


def allowed(rule: dict[str, Any], direction: str, other: Who | None, port: int) -> bool:
    """Whether a rule of a policy lets this pod (None: something outside of the cluster) at this port."""
    ports = rule.get("ports")
    if ports is not None and not any(each["port"] <= port <= each.get("endPort", each["port"]) for each in ports):
        return False
    peers = rule.get(direction)
    return peers is None or any(_is(peer, other) for peer in peers)


def _is(peer: dict[str, Any], other: Who | None) -> bool:
    if other is None or "podSelector" not in peer:
        return False
    pod, namespace = other
    here = {"kubernetes.io/metadata.name": NAMESPACE}
    wanted = peer.get("namespaceSelector", {"matchLabels": here})
    return matches(wanted, namespace) and matches(peer["podSelector"], pod)


def gets_in(manifests: tuple[Manifest, ...], pod: str, other: Who | None, port: int) -> bool:
    return _passes(manifests, pod, other, port, "ingress", "from")


def gets_out(manifests: tuple[Manifest, ...], pod: str, other: Who | None, port: int) -> bool:
    return _passes(manifests, pod, other, port, "egress", "to")


def _passes(manifests: tuple[Manifest, ...], pod: str, other: Who | None, port: int, way: str, key: str) -> bool:
    labels = labels_of(manifests)[pod]
    bound = [p["spec"] for p in of_kind(manifests, "NetworkPolicy") if matches(p["spec"]["podSelector"], labels)]
    assert bound, f"no policy binds {pod}"
    return any(allowed(rule, key, other, port) for spec in bound for rule in spec[way])


def ours(manifests: tuple[Manifest, ...], pod: str) -> Who:
    return labels_of(manifests)[pod], {"kubernetes.io/metadata.name": NAMESPACE}


@scenarios
def test_each_service_finds_its_pods_and_their_port(chart: Chart, values: Path) -> None:
    manifests = chart.render(values)
    pods = all_pods(manifests)
    for service in of_kind(manifests, "Service"):
        component = service["metadata"]["labels"]["app.kubernetes.io/component"]
        found = {
            n for n, pod in pods.items() if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        }
        # Clients come by pods that stay when a model rests.
        assert found == ({"cpu"} if component == "gateway" else {service["metadata"]["name"]})
        (port,) = service["spec"]["ports"]
        for name in found:
            first = pods[name]["spec"]["containers"][0]
            assert port["targetPort"] in {each["name"] for each in first["ports"]}
            assert first["readinessProbe"], "without one, traffic comes too early"


@scenarios
def test_probes_ask_ports_that_are_open(chart: Chart, values: Path) -> None:
    for name, pod in all_pods(chart.render(values)).items():
        for container in containers(pod):
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("readinessProbe", "livenessProbe"):
                handler = container.get(probe, {})
                asked = handler.get("httpGet") or handler.get("tcpSocket") or {}
                assert {asked["port"]} <= ports if asked else True, f"{name}: {probe}"
    for template in chart.templates(values).values():
        (container,) = template["spec"]["containers"]
        if "readinessProbe" in container:
            probe = container["readinessProbe"]
            assert probe["httpGet"] == {"path": "/readyz", "port": "http"}
            assert probe["timeoutSeconds"] - 1 > PING_TIMEOUT_S, "one silent model would take every pod out"
            assert probe["periodSeconds"] * probe["failureThreshold"] < PROXY_MIN_DRAINING_PERIOD_S / 2


@scenarios
def test_selectors_of_workloads_budgets_and_spreads_find_their_pods(chart: Chart, values: Path) -> None:
    manifests = chart.render(values)
    labels = labels_of(manifests)
    for each in of_kind(manifests, "StatefulSet"):
        assert matches(each["spec"]["selector"], each["spec"]["template"]["metadata"]["labels"])
        assert each["spec"]["serviceName"] in {s["metadata"]["name"] for s in of_kind(manifests, "Service")}
    for each in of_kind(manifests, "PodDisruptionBudget"):
        assert {name for name, its in labels.items() if matches(each["spec"]["selector"], its)} == {"cpu"}
    for name, pod in all_pods(manifests).items():
        for spread in pod["spec"].get("topologySpreadConstraints", []):
            assert matches(spread["labelSelector"], labels[name])
    for each in of_kind(manifests, "PodMonitor"):
        found = {name for name, its in labels.items() if matches(each["spec"]["selector"], its)}
        assert found == set(chart.templates(values))


def secrets_in(value: Any) -> Iterator[tuple[str, str | None]]:
    """Every Secret that a manifest refers to, with the entry where it names one."""
    if isinstance(value, list):
        for item in value:
            yield from secrets_in(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("secretKeyRef", "credentials"):
                yield inner["name"], inner["key"]
            elif key == "secret" and "secretName" in inner:
                yield inner["secretName"], inner["items"][0]["key"]
            elif key == "secretName" and isinstance(inner, str) and "items" not in value:
                yield inner, None
            else:
                yield from secrets_in(inner)


@scenarios
def test_secrets_are_those_that_the_values_name(chart: Chart, values: Path) -> None:
    given = merged(values)
    named = {(given["gateway"]["apiKeysSecret"], "keys")}
    named |= {(given["gateway"]["storeSecret"], entry) for entry in ("database-url", "redis-url")}
    named |= {(each["secret"], each["key"]) for each in given["gateway"]["upstreamSecrets"]}
    named |= {(given["gateway"]["ingress"]["tlsSecret"], None)}
    entries = [given[part]["passwordSecret"] for part in ("redis", "postgresql", "gcsFaultTolerance")]
    named |= {(entry["name"], entry["key"]) for entry in [*entries, given["metrics"]["keySecret"]]}
    found = set(secrets_in(list(chart.render(values))))
    assert found <= named
    assert {entry for entry in named if entry[0]} == found


def test_ways_in_lead_to_the_gateways_service(chart: Chart) -> None:
    (ingress,) = of_kind(chart.render(HA), "Ingress")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "test-castalia-gateway", "port": {"name": "http"}}
    (route,) = of_kind(chart.render(MIXED), "HTTPRoute")
    service = next(s for s in of_kind(chart.render(MIXED), "Service") if s["metadata"]["name"] == "fleet-gateway")
    (target,) = route["spec"]["rules"][0]["backendRefs"]
    assert target == {"name": "fleet-gateway", "port": service["spec"]["ports"][0]["port"]}
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "930s"}, "no shorter than the longest answer"


def test_the_connection_test_asks_the_gateway_whether_all_is_ready(chart: Chart) -> None:
    (pod,) = of_kind(chart.render(MIXED), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["containers"][0]["args"] == ["http://fleet-gateway:443/readyz"]


@pytest.mark.parametrize("values", [GPU, HA, MIXED, AIRGAPPED], ids=lambda path: path.stem)
def test_only_the_gateways_port_is_open_to_strangers(chart: Chart, values: Path) -> None:
    manifests = chart.render(values)
    for pod in chart.templates(values):
        for port in (*WITHIN, DASHBOARD, RAY_METRICS, HAPROXY_METRICS):
            assert not gets_in(manifests, pod, STRANGER, port), f"{pod}:{port}"
            assert not gets_in(manifests, pod, None, port), f"{pod}:{port} from outside"
        for port in WITHIN:
            for who in (OPERATOR, PROMETHEUS):
                assert not gets_in(manifests, pod, who, port), f"{pod}:{port}"
        opened = pod != "head" and values != AIRGAPPED
        assert gets_in(manifests, pod, STRANGER, GATEWAY_PORT) == opened
        assert gets_in(manifests, pod, ({}, {"kubernetes.io/metadata.name": "ingress"}), GATEWAY_PORT) is opened


@pytest.mark.parametrize("values", [GPU, HA, MIXED, AIRGAPPED], ids=lambda path: path.stem)
def test_the_fleet_reaches_itself_the_operator_its_head_and_prometheus_the_figures(chart: Chart, values: Path) -> None:
    manifests = chart.render(values)
    pods = list(chart.templates(values))
    for pod in pods:
        for peer in pods:
            for port in (*WITHIN, GATEWAY_PORT, DASHBOARD):
                assert gets_in(manifests, pod, ours(manifests, peer), port), f"{peer} to {pod}:{port}"
                assert gets_out(manifests, pod, ours(manifests, peer), port), f"{pod} to {peer}:{port}"
        assert gets_in(manifests, pod, PROMETHEUS, RAY_METRICS)
        assert gets_out(manifests, pod, STRANGER, 53), "names"
    assert gets_in(manifests, "head", OPERATOR, DASHBOARD)
    proxied = merged(values)["settings"]["haproxy"]
    assert gets_in(manifests, "cpu", PROMETHEUS, HAPROXY_METRICS) == proxied


def test_each_pod_gets_out_to_what_it_needs_alone(chart: Chart) -> None:
    ha = chart.render(HA)
    redis, postgresql = ours(ha, "test-castalia-redis"), ours(ha, "test-castalia-postgresql")
    assert gets_out(ha, "cpu", redis, 6379)
    assert gets_out(ha, "head", redis, 6379)
    assert gets_out(ha, "cpu", postgresql, 5432)
    assert not gets_out(ha, "head", postgresql, 5432), "the store is the gateways'"
    for name, port, clients in (
        ("test-castalia-redis", 6379, ("cpu", "head")),
        ("test-castalia-postgresql", 5432, ("cpu",)),
    ):
        assert all(gets_in(ha, name, ours(ha, client), port) for client in clients)
        assert not gets_in(ha, name, STRANGER, port)
        assert not gets_out(ha, name, STRANGER, 443), "a server of state calls nobody"
    assert gets_out(ha, "cpu", None, 443), "weights, remote servers"
    assert gets_out(ha, "head", None, 6443), "the autoscaler asks the API server"
    assert not gets_out(ha, "cpu", None, 80)
    assert gets_out(chart.render(MIXED), "head", None, 6380), "a Redis of one's own"
    assert gets_out(chart.render(MIXED), "cpu", None, 5432), "a PostgreSQL of one's own"


def test_an_airgapped_fleet_gets_nowhere_but_to_names_itself_and_the_api_server(chart: Chart) -> None:
    manifests = chart.render(AIRGAPPED)
    for pod in chart.templates(AIRGAPPED):
        for port in (80, 443, 5432, 6379, 6443):
            assert not gets_out(manifests, pod, None, port), f"{pod}:{port}"
    assert '"cidr": "10.96.0.1/32"' in json.dumps(of_kind(manifests, "NetworkPolicy"))


def test_objects_of_ones_own_are_templates(chart: Chart) -> None:
    (mine,) = [each for each in of_kind(chart.render(MIXED), "ConfigMap") if each["metadata"]["name"] == "test-note"]
    assert mine["data"] == {"fleet": "fleet"}
