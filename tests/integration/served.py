"""The models of the fleet that these tests share: their weights and models.yaml. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.sources import write_manifest
from shared.config.models import HostedService
from tests.adapters import make_adapter
from tests.checkpoints import make_checkpoint
from tests.diffusers_checkpoints import make_diffusers_checkpoint
from tests.image_checkpoints import image_checkpoint
from tests.ising_checkpoint import EXAMPLES, make_ising
from tests.shape_checkpoints import make_dialogue, make_embedder, make_masked, make_pair

__all__ = ["EXAMPLES", "checkpoint", "models_yaml"]


def checkpoint(folder: Path, architecture: str, *, context: int, **changes: Any) -> str:
    """A verified tiny checkpoint; returns its source."""
    make_checkpoint(architecture, folder, context=context, **changes)
    write_manifest(folder, source=f"file://{folder}")
    return f"file://{folder}"


def models_yaml(checkpoints: Path, builtin_services: Sequence[HostedService], *, context: int) -> dict[str, Any]:
    """The third service and those of images rest until they are asked.

    `tight` has room for few tokens at once: 3 layers of keys and values of 64 floats are 1,536 bytes a token.
    """
    llama = checkpoint(checkpoints / "llama", "llama", context=context)
    bot = make_adapter(checkpoints / "llama", checkpoints / "bot", target_modules="all-linear")
    write_manifest(bot)
    qwen = checkpoint(checkpoints / "qwen2", "qwen2", context=context)
    gpt2 = checkpoint(checkpoints / "gpt2", "gpt2", context=context)
    resources = {"num_cpus": 0.05, "memory": "1GiB"}
    first = [
        {"id": "llama", "source": llama, "context_length": context},
        {"id": "llama-bot", "base": "llama", "adapter": f"file://{bot}"},
        {"id": "tight", "source": gpt2, "context_length": context, "cache_memory": "2MiB"},
    ]
    second = [{"id": "qwen", "source": qwen, "context_length": context}]
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
    builtin = [service.model_dump(mode="json", exclude_unset=True) for service in builtin_services]
    # Each application takes two seconds to deploy, and each process as long as one of its own to wake.
    transformers = [service for service in builtin if service["family"] == shapes["family"]]
    shapes["models"] += [model for service in transformers for model in service["models"]]
    others = [service for service in builtin if service not in transformers]
    return {
        "services": [*services, at_rest, *_image_services(checkpoints), _plugin_service(checkpoints), shapes, *others]
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
