"""What the loss of a node, of a link, of a proxy and of the head does to whoever is being answered."""

from __future__ import annotations

import time

import httpx

from tests.cluster.fleet import START_S, ClusterFleet
from tests.cluster.kuberay import wait_until
from tests.cluster.probes import PacedStream, Probes
from tests.cluster.report import Figures
from tests.cluster.test_upgrades import ids

STREAM_S = 60.0
AWAY_S = 30.0
WAIT_S = 900.0


def test_a_killed_node_fails_its_own_streams_alone_and_is_replaced(fleet: ClusterFleet, figures: Figures) -> None:
    scenario = "A GPU node is killed"
    own = [PacedStream(fleet, "first", STREAM_S, via=pod).begin() for pod in fleet.operator.of_group("cpu")]
    others = [PacedStream(fleet, "second", STREAM_S, via=pod).begin() for pod in fleet.operator.of_group("cpu")]
    wait_until("the streams run", lambda: all(each.begun for each in (*own, *others)), within_s=60)
    node = fleet.node_of("first")
    with Probes(fleet, "assistant", via=fleet.operator.of_group("cpu")[0]) as probes:
        killed = time.monotonic()
        node.kill()
        for stream in own:
            stream.join()
        told_s = time.monotonic() - killed
        _answers(fleet, "first", within_s=WAIT_S)
        back_s = time.monotonic() - killed
        for stream in others:
            stream.join()
    figures.add(scenario, "its streams: told of an error, then cut", _told(own), f"{len(own)} of {len(own)}")
    figures.add(scenario, "until the last of them was told (s)", told_s)
    figures.add(
        scenario, "streams on the other GPU node that ended whole", _whole(others), f"{len(others)} of {len(others)}"
    )
    figures.add(scenario, "other requests, of which failed", f"{probes.sent}, {len(probes.failures)}", "0")
    figures.add(scenario, "until its model answered again, on a new node (s)", back_s)
    assert _told(own) == f"{len(own)} of {len(own)}", [(each.end, each.why, each.after_error) for each in own]
    assert _whole(others) == f"{len(others)} of {len(others)}", [(each.end, each.why) for each in others]
    assert probes.sent > 10
    assert probes.failures == []


def test_a_node_whose_link_is_cut_fails_its_own_streams_alone_and_is_replaced(
    fleet: ClusterFleet, figures: Figures
) -> None:
    scenario = "The link to a GPU node is cut"
    (pod, *_) = fleet.operator.of_group("cpu")
    own, other = (
        PacedStream(fleet, name, 3 * STREAM_S / 2, via=pod, timeout_s=150).begin() for name in ("first", "second")
    )
    wait_until("the streams run", lambda: own.begun and other.begun, within_s=60)
    node = fleet.node_of("first")
    with Probes(fleet, "assistant", via=pod) as probes:
        cut = time.monotonic()
        node.cut()
        own.join()
        told_s = time.monotonic() - cut
        ready = len(fleet.service.ready)
        _answers(fleet, "first", within_s=WAIT_S)
        back_s = time.monotonic() - cut
        other.join()
    node.kill()
    figures.add(scenario, "how its stream ended", f"{own.end}, {own.after_error or own.why}", "error, cut")
    figures.add(scenario, "until its stream was told (s)", told_s)
    figures.add(scenario, "ways in that were ready by then", f"{ready} of 2", "2 of 2")
    figures.add(scenario, "the stream on the other GPU node", other.end, "completed")
    figures.add(scenario, "other requests, of which failed", f"{probes.sent}, {len(probes.failures)}", "0")
    figures.add(scenario, "until its model answered again, on a new node (s)", back_s)
    assert (own.end, own.after_error) == ("error", "cut"), own.why
    assert ready == 2, "a model that does not answer took the whole fleet away"
    assert other.end == "completed", other.why
    assert probes.failures == []


def test_a_lost_proxy_is_started_again_while_the_other_answers(fleet: ClusterFleet, figures: Figures) -> None:
    scenario = "A proxy (HAProxy) is killed, one of two"
    lost, kept = fleet.operator.of_group("cpu")
    with Probes(fleet, "assistant", via=kept) as probes:
        (first, *_) = lost.processes("haproxy -")
        lost.run("kill", "-9", *map(str, lost.processes("haproxy -")))
        began = time.monotonic()
        with httpx.Client(trust_env=False, timeout=5, headers=fleet.headers) as client:
            wait_until(
                "it answers again", lambda: _is_ok(client, f"http://{lost.address}:8000/readyz"), within_s=WAIT_S
            )
        back_s = time.monotonic() - began
    assert first not in lost.processes("haproxy -")
    figures.add(scenario, "requests by the other, of which failed", f"{probes.sent}, {len(probes.failures)}", "0")
    figures.add(scenario, "until the lost one answered again (s)", back_s)
    assert probes.failures == []


def test_serving_goes_on_while_the_head_is_away_and_scaling_works_when_it_is_back(
    fleet: ClusterFleet, figures: Figures
) -> None:
    scenario = "The head (GCS, controller, autoscaler) is killed"
    replicas = {name: ids(fleet, name) for name in ("chat", "first", "second")}
    workers = {pod.spec.name for group in ("cpu", "l4") for pod in fleet.operator.of_group(group)}
    fleet.operator.paused = True
    stream = PacedStream(fleet, "first", STREAM_S).begin()
    wait_until("the stream runs", lambda: stream.begun, within_s=60)
    with Probes(fleet, "assistant") as probes:
        fleet.operator.head.kill()
        time.sleep(AWAY_S)
        away = probes.sent
        fleet.operator.paused = False
        began = time.monotonic()
        wait_until("Serve's controller answers", fleet.is_running, within_s=START_S)
        back_s = time.monotonic() - began
        stream.join()
        time.sleep(AWAY_S)  # the autoscaler looks around
    figures.add(scenario, f"requests in the {AWAY_S:g} s without a head", away)
    figures.add(scenario, "requests in all, of which failed", f"{probes.sent}, {len(probes.failures)}", "0")
    figures.add(scenario, "a stream of 60 s meanwhile", stream.end, "completed")
    figures.add(scenario, "a new head: until every application runs, as Serve tells (s)", back_s)
    assert away > 10
    assert probes.failures == []
    assert stream.end == "completed", stream.why
    kept = {name: len(ids(fleet, name) & replicas[name]) for name in replicas}
    figures.add(scenario, "replicas that are the same processes as before", str(sum(kept.values())), "3")
    assert kept == dict.fromkeys(replicas, 1), "replicas were started anew"
    now = {pod.spec.name for group in ("cpu", "l4") for pod in fleet.operator.of_group(group)}
    assert workers <= now, "worker nodes were lost with the head"
    began = time.monotonic()
    _answers(fleet, "sleeper", within_s=WAIT_S)
    figures.add(
        scenario, "afterwards, a model at rest: until a new GPU node has answered (s)", time.monotonic() - began
    )
    assert fleet.node_of("resting").spec.name not in now
    wait_until("its node goes again", lambda: not fleet.replicas("resting"), within_s=WAIT_S)


def _answers(fleet: ClusterFleet, model: str, *, within_s: float) -> None:
    """Until a request for the model is answered; every refusal meanwhile must be one that says to try again."""
    deadline = time.monotonic() + within_s
    (pod, *_) = fleet.operator.of_group("cpu")
    path, body = ("/v1/images/generations", {"steps": 1}) if model in ("first", "second") else ("/v1/completions", {})
    with httpx.Client(
        base_url=f"http://{pod.address}:8000", headers=fleet.headers, trust_env=False, timeout=200
    ) as client:
        while True:
            answer = client.post(path, json={"model": model, "prompt": "a", **body})
            if answer.is_success:
                return
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.5)


def _is_ok(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.HTTPError:
        return False


def _told(streams: list[PacedStream]) -> str:
    return f"{sum((each.end, each.after_error) == ('error', 'cut') for each in streams)} of {len(streams)}"


def _whole(streams: list[PacedStream]) -> str:
    return f"{sum(each.end == 'completed' for each in streams)} of {len(streams)}"
