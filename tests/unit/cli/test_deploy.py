"""`castalia deploy`: what Ray Serve is told, what it would drop of it, and what would change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cli.conftest import Run

MODELS: dict[str, Any] = {
    "services": [
        {"name": "chat", "family": "transformer", "models": [{"id": "tiny", "source": "file:///m/tiny"}]},
        {"name": "gan", "family": "gan", "replicas": {"min": 0}, "models": [{"id": "g", "source": "file:///m/g"}]},
        {
            "name": "far",
            "family": "upstream",
            "url": "https://far.example/v1",
            "models": [{"id": "far", "remote_id": "x"}],
        },
    ]
}


@pytest.fixture
def models(run: Run) -> Path:
    """The models.yaml of the folder that `run` runs in."""
    path = Path("models.yaml")
    path.write_text(yaml.safe_dump(MODELS))
    return path


def manifest(config: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "RayService", "metadata": {"name": "c"}, "spec": {"serveConfigV2": yaml.safe_dump(config)}}


def rendered(run: Run) -> dict[str, Any]:
    done = run("deploy", "render")
    assert done.exit_code == 0, done.output
    return yaml.safe_load(done.stdout)


def test_render_writes_what_a_pod_is_told(run: Run, models: Path) -> None:
    config = rendered(run)
    assert [app["name"] for app in config["applications"]] == ["chat", "gan", "gateway"]
    assert config["http_options"] == {"host": "0.0.0.0", "port": 8000}
    assert run("deploy", "render", "--output", "serve.yaml").exit_code == 0
    assert yaml.safe_load(Path("serve.yaml").read_text()) == config


def test_a_file_that_cannot_be_written_or_read_is_named(run: Run, models: Path) -> None:
    for arguments in (
        ("render", "-o", "no/where.yaml"),
        ("check", "no/where.yaml"),
        ("diff", "--file", "no/where.yaml"),
    ):
        done = run("deploy", *arguments)
        assert done.exit_code == 1
        assert "no/where.yaml" in done.stderr


def test_check_finds_nothing_in_what_models_yaml_gives(run: Run, models: Path) -> None:
    done = run("deploy", "check")
    assert (done.exit_code, "3 applications" in done.stdout) == (0, True), done.output


def misspell(change: Callable[[dict[str, Any]], object], config: dict[str, Any]) -> dict[str, Any]:
    change(config)
    return config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(proxy_locatoin="EveryNode"), "proxy_locatoin: Ray Serve knows no such key"),
        (
            lambda c: c["applications"][0]["deployments"][0]["ray_actor_options"].update(num_gpu=1),
            "applications[0].deployments[0].ray_actor_options.num_gpu: Ray Serve knows no such key",
        ),
        (
            lambda c: c["applications"][1]["deployments"][0]["autoscaling_config"].update(min_replica=1),
            "applications[1].deployments[0].autoscaling_config.min_replica: Ray Serve knows no such key",
        ),
        (
            lambda c: c["applications"][1]["deployments"][0]["autoscaling_config"].update(min_replicas=3),
            "min_replicas (3) is over max_replicas (1)",
        ),
        (lambda c: c["applications"][0].pop("import_path"), "applications[0].import_path: "),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["config", "RayService"])
def test_check_names_what_ray_serve_would_drop_or_take(
    run: Run, models: Path, change: Callable[[dict[str, Any]], object], said: str, wrapped: bool
) -> None:
    config = misspell(change, rendered(run))
    text = yaml.safe_dump_all([{"kind": "Service"}, manifest(config)] if wrapped else [config])
    done = run("deploy", "check", "-", input=text)
    assert done.exit_code == 1
    assert said in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "neither a RayService nor"),
        ("a: [", "not YAML"),
        ("kind: RayService\nspec: {}\n", "no spec.serveConfigV2"),
        ("kind: RayService\n---\nkind: RayService\n", "2 RayServices"),
    ],
)
def test_check_says_what_is_no_configuration(run: Run, text: str, said: str) -> None:
    done = run("deploy", "check", "-", input=text)
    assert done.exit_code == 1
    assert said in done.stderr


def changed() -> dict[str, Any]:
    """MODELS with a service more, one less, one changed in two places, and a remote server elsewhere."""
    chat, _, far = (dict(service) for service in MODELS["services"])
    chat["resources"] = {"memory": "3GiB"}
    chat["models"] = [{"id": "tiny", "source": "file:///m/tinier"}]
    far["url"] = "https://farther.example/v1"
    new = {"name": "new", "family": "gan", "models": [{"id": "n", "source": "file:///m/n"}]}
    routes = [{"name": "front", "targets": [{"model": "tiny"}]}]
    return {"services": [chat, new, far], "routes": routes}


def test_diff_shows_each_service_that_would_change(run: Run, models: Path) -> None:
    Path("before.yaml").write_text(yaml.safe_dump(rendered(run)))
    models.write_text(yaml.safe_dump(changed()))
    done = run("deploy", "diff", "--file", "before.yaml")
    assert done.exit_code == 1
    lines = [line.strip() for line in done.stdout.splitlines()]
    heads = [line for line in lines if line.partition(" ")[0] in ("added", "removed", "changed")]
    assert heads == [
        "changed  service chat",
        "removed  service gan",
        "changed  service far",
        "added    service new",
        "added    route front",
    ]
    details = "\n".join(lines)
    assert "deployments[Replica].ray_actor_options.memory: 2147483648 -> 3221225472" in details
    assert "models[tiny].source: 'file:///m/tiny' -> 'file:///m/tinier'" in details
    assert "url: 'https://far.example/v1' -> 'https://farther.example/v1'" in details


def test_diff_of_the_same_is_nothing_however_it_is_spelt(run: Run, models: Path) -> None:
    """The chart leaves byte sizes as they are written, and defaults out; replicas read both alike."""
    config = rendered(run)
    entry = config["applications"][0]["deployments"][0]["user_config"]
    entry["resources"] = {"memory": "2GiB", "num_cpus": 0.05}
    config["applications"].reverse()
    Path("same.yaml").write_text(yaml.safe_dump(manifest(config)))
    done = run("deploy", "diff", "--file", "same.yaml")
    assert (done.exit_code, done.stdout.strip()) == (0, "nothing would change")


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Path]:
    """Puts a kubectl on PATH that prints this and ends with that status; returns where it notes its arguments."""

    def make(output: str, status: int = 0) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "output").write_text(output)
        script = folder / "kubectl"
        where = "&2" if status else "&1"
        script.write_text(f'#!/bin/sh\necho "$@" > {folder}/arguments\ncat {folder}/output >{where}\nexit {status}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return folder / "arguments"

    return make


def test_diff_asks_the_cluster_by_kubectl(run: Run, models: Path, kubectl: Callable[..., Path]) -> None:
    config = rendered(run)
    config["applications"][0]["deployments"][0]["num_replicas"] = 2
    arguments = kubectl(json.dumps({"items": [manifest(config)]}))
    done = run("deploy", "diff", "--release", "prod", "--namespace", "models")
    assert done.exit_code == 1
    assert "deployments[Replica].num_replicas: 2 -> 1" in done.stdout
    asked = "get rayservices.ray.io --namespace models --selector app.kubernetes.io/instance=prod --output=json"
    assert arguments.read_text().strip() == asked


@pytest.mark.parametrize(
    ("output", "status", "said"),
    [
        ("the server is away", 1, "kubectl: the server is away"),
        (json.dumps({"items": []}), 0, "release 'castalia' has 0 RayServices"),
    ],
)
def test_diff_says_why_the_cluster_has_no_answer(
    run: Run, models: Path, kubectl: Callable[..., Path], output: str, status: int, said: str
) -> None:
    kubectl(output, status)
    done = run("deploy", "diff")
    assert done.exit_code == 1
    assert said in done.stderr


def test_without_kubectl_diff_says_what_else_it_takes(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = run("deploy", "diff")
    assert done.exit_code == 1
    assert "--file" in done.stderr
