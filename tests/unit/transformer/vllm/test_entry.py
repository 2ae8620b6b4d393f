"""An entry with `engine: vllm`: what it may say, what vLLM is told, where its devices are, and what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.app import load_fleet_config, serve_config
from services.families.transformer.family import load
from services.families.transformer.vllm import engine
from services.families.transformer.vllm.engine import VllmMissing, engine_arguments, environment
from services.replica import Replica
from services.serve_schema import faults
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from shared.config.transformer import TransformerModel, VllmModel

ROOT = Path(__file__).parents[4]
GIB = 2**30
ENTRY = {"id": "large", "source": "file:///models/large", "engine": "vllm"}


def fleet(model: dict[str, Any], resources: dict[str, Any], *more: dict[str, Any]) -> FleetConfig:
    service = {"name": "chat", "family": "transformer", "resources": resources, "models": [{**ENTRY, **model}, *more]}
    return FleetConfig.model_validate({"services": [service]})


def entry(**changes: Any) -> VllmModel:
    return VllmModel.model_validate({**ENTRY, **changes})


def test_the_engine_of_an_entry_decides_who_runs_it_and_survives_the_way_to_a_replica() -> None:
    config = fleet({"conversation": "none", "device": "cuda"}, {"num_gpus": 1})
    (model,) = config.hosted[0].models
    assert isinstance(model, VllmModel)
    assert model.does == ("completion", "tokenize", "detokenize")
    (application, _) = serve_config(config, Settings())["applications"]
    (again,) = FleetConfig.model_validate({"services": [application["deployments"][0]["user_config"]]}).hosted
    assert again.models == (model,)
    plain = {"name": "a", "family": "transformer", "models": [{"id": "a", "source": "file://a"}]}
    assert isinstance(FleetConfig.model_validate({"services": [plain]}).hosted[0].models[0], TransformerModel)


@pytest.mark.parametrize(
    ("model", "resources", "said"),
    [
        ({"engine": "vlm"}, {}, "engine"),
        ({"kind": "embedding"}, {}, "kind"),
        ({"tensor_parallel": 2}, {"num_gpus": 2}, r"tensor_parallel \(2\) needs device: cuda"),
        (
            {"tensor_parallel": 2, "device": "cuda"},
            {"num_gpus": 1},
            r"tensor_parallel \(2\) needs as many num_gpus, not 1",
        ),
        (
            {"device": "cuda"},
            {"gpu_memory": "10GiB", "accelerator": "L4"},
            r"gpu_memory_utilization \(0.9\) is over the part of a device that gpu_memory is \(0.457\)",
        ),
        ({"quantization": "; rm"}, {}, "quantization"),
        ({"gpu_memory_utilization": 1.5}, {}, "gpu_memory_utilization"),
    ],
)
def test_what_cannot_be_placed_or_read_is_refused_with_the_rule(
    model: dict[str, Any], resources: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        fleet(model, resources)


def test_a_part_of_a_device_is_taken_by_the_same_part_of_its_memory() -> None:
    found = fleet({"device": "cuda", "gpu_memory_utilization": 0.45}, {"gpu_memory": "10GiB", "accelerator": "L4"})
    assert found.hosted[0].resources.device_share == 0.4572


def test_vllm_shares_its_service_with_no_other_model() -> None:
    with pytest.raises(ValidationError, match="large must be its service's only model"):
        fleet({}, {}, {"id": "small", "source": "file://small"})


def test_vllm_is_told_what_the_entry_says_and_nothing_of_what_it_leaves_out() -> None:
    folder = Path("/models/large")
    plain = engine_arguments(entry(device="cuda", dtype="bfloat16"), folder, 2048)
    assert plain == {
        "model": "/models/large",
        "dtype": "bfloat16",
        "max_model_len": 2048,
        "max_num_seqs": 16,
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.9,
        "enforce_eager": False,
        "enable_prefix_caching": True,
        "load_format": "safetensors",
        "generation_config": "vllm",
        "structured_outputs_config": {"backend": "guidance"},
        "max_logprobs": 20,
        "seed": 0,
        "trust_remote_code": False,
        "disable_log_stats": True,
    }
    full = engine_arguments(
        entry(
            device="cuda",
            tensor_parallel=4,
            quantization="fp8",
            cache_memory="20GiB",
            prefill_tokens=8192,
            enforce_eager=True,
            prefix_cache=False,
            max_batch_size=256,
        ),
        folder,
        32768,
    )
    changed = {name: value for name, value in full.items() if plain.get(name) != value}
    assert changed == {
        "dtype": "float32",
        "max_model_len": 32768,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 8192,
        "tensor_parallel_size": 4,
        "distributed_executor_backend": "ray",
        "kv_cache_memory_bytes": 20 * GIB,
        "quantization": "fp8",
        "enforce_eager": True,
        "enable_prefix_caching": False,
    }
    assert engine_arguments(entry(), folder, 2048)["kv_cache_memory_bytes"] == GIB, "a CPU has no part to leave"


def test_nothing_is_compiled_in_the_midst_of_a_request_where_nothing_is_to_be_compiled() -> None:
    assert "TORCHDYNAMO_DISABLE" not in environment(entry())
    assert environment(entry(enforce_eager=True))["TORCHDYNAMO_DISABLE"] == "1"


def test_a_model_that_is_spread_has_a_bundle_for_each_device_on_one_machine() -> None:
    resources = {"num_cpus": 2, "num_gpus": 4, "memory": "24GiB", "accelerator": "H100"}
    config = serve_config(fleet({"device": "cuda", "tensor_parallel": 4}, resources), Settings())
    (replica,) = config["applications"][0]["deployments"]
    assert replica["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0, "memory": 24 * GIB}
    first, *others = replica["placement_group_bundles"]
    assert first == {"CPU": 2, "memory": 24 * GIB, "GPU": 1}, "the replica is in the first, and takes no device"
    assert others == [{"GPU": 1}] * 3
    assert replica["placement_group_strategy"] == "STRICT_PACK"
    assert replica["placement_group_bundle_label_selector"] == [{"ray.io/accelerator-type": "H100"}]
    assert faults(config) == [], "Ray Serve takes all of it"
    placed = {key: value for key, value in replica.items() if key.startswith(("placement_group", "ray_actor"))}
    assert Replica.options(**placed), "and the replica fits its bundle"
    assert "max_replicas_per_node" not in replica, "which Ray Serve does not take beside bundles"


def test_a_model_on_one_device_is_placed_as_any_other() -> None:
    config = serve_config(fleet({"device": "cuda"}, {"num_gpus": 1}), Settings())
    (replica,) = config["applications"][0]["deployments"]
    assert replica["ray_actor_options"]["num_gpus"] == 1
    assert not [key for key in replica if key.startswith("placement_group")]


def test_the_example_with_devices_is_a_fleet_that_ray_serve_knows_with_all_embedded_models_but_the_chat() -> None:
    example, embedded = (load_fleet_config(ROOT / name) for name in ("models.gpu.yaml", "models.yaml"))
    assert faults(serve_config(example, Settings())) == []
    found = {service.name: service for service in example.hosted}
    large = [model for service in example.hosted for model in service.models if isinstance(model, VllmModel)]
    assert sorted(model.tensor_parallel for model in large) == [1, 4]
    assert all(found[service.name] == service for service in embedded.hosted if service.name != "chat")


def test_without_vllm_the_model_fails_to_load_and_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    with pytest.raises(VllmMissing, match=r"pip install 'castalia\[vllm\]'"):
        load(entry(), tmp_path)
