"""One real fleet for all of these tests: Ray, HAProxy, the gateway, tiny random models, and built-in ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import yaml

from services import fleet
from services.app import load_fleet_config
from services.sources import write_manifest
from shared.config.settings import Settings
from tests.adapters import make_adapter
from tests.checkpoints import make_checkpoint
from tests.diffusers_checkpoints import make_diffusers_checkpoint
from tests.image_checkpoints import image_checkpoint
from tests.ising_checkpoint import EXAMPLES, make_ising
from tests.shape_checkpoints import make_dialogue, make_embedder, make_masked, make_pair

Tell = Callable[[str], None]
MODELS_YAML = Path(__file__).parents[2] / "models.yaml"
# Small enough to be served as they are; the other families have tiny checkpoints with random weights.
BUILTIN = [
    service
    for service in load_fleet_config(MODELS_YAML).hosted
    if service.family not in ("diffusion", "gan") and all(m.source.startswith("builtin://") for m in service.models)
]

CONTEXT = 8192  # long enough for streams that outlive what the tests do to them


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ray)


@dataclass
class LocalFleet:
    """A running fleet, its files, and ways to reach it."""

    state: fleet.FleetState
    settings: Settings
    config_path: Path
    checkpoints: Path

    @property
    def url(self) -> str:
        return self.state.url

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
        )

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    def processes(self, title: str = "") -> list[psutil.Process]:
        """The fleet's own living processes whose command line begins with `title`."""
        process = self.state.process
        assert process is not None
        found = [process, *process.children(recursive=True)]
        titles = [(each, title_of(each)) for each in found]
        return [each for each, its in titles if its is not None and its.startswith(title)]

    def replica(self, service: str) -> psutil.Process:
        (process,) = self.processes(f"ray::ServeReplica:{service}:Replica")
        return process

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        return self.metrics(name, **labels)[0]

    def metrics(self, *names: str, **labels: str) -> list[float]:
        """As `metric`, of several at one moment."""
        with self.http() as client:
            lines = client.get("/metrics").raise_for_status().text.splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = [line for line in lines if all(label in line for label in wanted)]
        return [
            sum(float(line.rpartition(" ")[2]) for line in samples if line.startswith(f"{name}{{")) for name in names
        ]


def title_of(process: psutil.Process) -> str | None:
    """Its command line; None if it has ended, even if its parent has not noticed yet."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return None


def checkpoint(folder: Path, architecture: str, **changes: Any) -> str:
    """A verified tiny checkpoint; returns its source."""
    make_checkpoint(architecture, folder, context=CONTEXT, **changes)
    write_manifest(folder, source=f"file://{folder}")
    return f"file://{folder}"


def models_yaml(checkpoints: Path) -> dict[str, Any]:
    """The third service and those of images rest until they are asked.

    `tight` has room for few tokens at once: 3 layers of keys and values of 64 floats are 1,536 bytes a token.
    """
    llama = checkpoint(checkpoints / "llama", "llama")
    bot = make_adapter(checkpoints / "llama", checkpoints / "bot", target_modules="all-linear")
    write_manifest(bot)
    qwen = checkpoint(checkpoints / "qwen2", "qwen2")
    gpt2 = checkpoint(checkpoints / "gpt2", "gpt2")
    resources = {"num_cpus": 0.05, "memory": "1GiB"}
    first = [
        {"id": "llama", "source": llama, "context_length": CONTEXT},
        {"id": "llama-bot", "base": "llama", "adapter": f"file://{bot}"},
        {"id": "tight", "source": gpt2, "context_length": CONTEXT, "cache_memory": "2MiB"},
    ]
    second = [{"id": "qwen", "source": qwen, "context_length": CONTEXT}]
    entries = [("first", first), ("second", second)]
    services: list[dict[str, Any]] = [
        {"name": name, "family": "transformer", "resources": resources, "models": models} for name, models in entries
    ]
    idle = {"min": 0, "max": 1}
    at_rest = {
        "name": "third",
        "family": "transformer",
        "replicas": idle,
        "models": [{"id": "sleeper", "source": qwen}],
    }
    shapes = _shapes_service(checkpoints)
    builtin = [service.model_dump(mode="json", exclude_unset=True) for service in BUILTIN]
    return {
        "services": [*services, at_rest, *_image_services(checkpoints), _plugin_service(checkpoints), shapes, *builtin]
    }


def _shapes_service(checkpoints: Path) -> dict[str, Any]:
    """Transformers that are no plain decoders, and one that was trained on turns alone, in one process."""
    pair = make_pair("t5", checkpoints / "pair")
    masked = make_masked("bert", checkpoints / "masked")
    embedder = make_embedder(checkpoints / "embedder")
    dialogue = make_dialogue(checkpoints / "dialogue")
    for folder in (pair, masked, embedder, dialogue):
        write_manifest(folder)
    purpose = {"purpose": "translation_en_to_de", "cache_memory": "16MiB"}
    return {
        "name": "shapes",
        "family": "transformer",
        "replicas": {"min": 0, "max": 1},
        "resources": {"num_cpus": 0.05, "memory": "1GiB"},
        "models": [
            {"id": "pair", "kind": "encoder_decoder", "source": f"file://{pair}", **purpose},
            {"id": "masked", "kind": "masked", "source": f"file://{masked}"},
            {"id": "embedder", "kind": "embedding", "source": f"file://{embedder}"},
            {"id": "dialogue", "source": f"file://{dialogue}", "cache_memory": "16MiB"},
        ],
    }


def _plugin_service(checkpoints: Path) -> dict[str, Any]:
    folder = checkpoints / "ising"
    folder.mkdir()
    model = {
        "id": "ising",
        "source": f"file://{make_ising(folder)}",
        "sampler": "ising:IsingSampler",
        "tasks": ["image"],
        "row_cost": 1000,
        "options": {"side": 32},
    }
    return {"name": "ising", "family": "plugin", "replicas": {"min": 0, "max": 1}, "models": [model]}


def _image_services(checkpoints: Path) -> list[dict[str, Any]]:
    """`latent` is solved by every solver of noise; `emoji` is a flow."""
    kinds = {"emoji": "diffusion", "digits": "gan"}
    latent = make_diffusers_checkpoint("stable_diffusion", checkpoints / "latent")
    write_manifest(latent)
    more = {"emoji": [{"id": "latent", "source": f"file://{latent}"}]}
    return [
        {
            "name": kind,
            "family": family,
            "replicas": {"min": 0, "max": 1},
            "resources": {"num_cpus": 0.05, "memory": "1GiB"},
            "models": [{"id": kind, "source": image_checkpoint(kind, checkpoints / kind)}, *more.get(kind, [])],
        }
        for kind, family in kinds.items()
    ]


def start(folder: Path, config: dict[str, Any], *, name: str) -> LocalFleet:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    settings = Settings(home=folder / "home", port=0, header_timeout_s=4, body_timeout_s=4, batch_lease_s=3)
    state = fleet.up(path, name=name, settings=settings, on_progress=print)
    return LocalFleet(state, settings, path, folder)


@pytest.fixture(scope="session")
def local_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(EXAMPLES))  # where a sampler of an operator's own is found
        running = start(folder, models_yaml(folder), name="main")
    try:
        yield running
    finally:
        fleet.down("main", running.settings.home)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Shows a measured figure to whoever runs the tests."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}")  # noqa: T201

    return show
