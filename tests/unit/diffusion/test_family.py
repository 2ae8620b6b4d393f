"""Checkpoints through the family's own `load`, as a replica calls it; and those that it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.engine.contract import Preview
from services.families import LoadedModel
from services.families.diffusion.family import load, read_checkpoint
from services.nn.errors import UnsupportedModel
from shared.config.diffusion import DiffusionModel
from shared.errors import InvalidRequest
from shared.schemas.images import ImageGenerationRequest
from tests.diffusers_checkpoints import make_diffusers_checkpoint
from tests.unit.diffusion.driver import CPU, Model, run

KINDS = ("emoji", "ddpm", "stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3")


def config(**options: Any) -> DiffusionModel:
    return DiffusionModel.model_validate({"id": "tiny", "source": "file:///tiny", **options})


def draw(loaded: LoadedModel, **options: Any) -> Any:
    """The image of a request, through what `load` gave."""
    request = ImageGenerationRequest.model_validate({"model": "tiny", "seed": 1, "steps": 3, **options})
    (params,) = loaded.tasks["image"].prepare(request)
    state, output = loaded.sampler.start(params), None
    while output is None or output.finish_reason is None:
        (output,) = loaded.sampler.step([state])
        assert not isinstance(output.chunk, Preview)
    loaded.sampler.release(state)
    assert output.finish_reason == "stop"
    return output.chunk


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_kind_loads_and_draws_in_every_precision_as_in_float64(
    folders: Callable[[str], Path], models: Callable[[str], Model], kind: str, dtype: str
) -> None:
    """float32 to a level or two of 255; bfloat16, with three decimal digits, to four on average."""
    loaded = load(config(dtype=dtype), folders(kind))
    prompt = "" if kind == "ddpm" else "red heart"
    chunk = draw(loaded, prompt=prompt)
    request = ImageGenerationRequest(model="tiny", seed=1, steps=3, prompt=prompt)
    (exact,) = run(models(kind).sampler(), loaded.tasks["image"].prepare(request)[:1])
    difference = np.abs(chunk.pixels.astype(int) - exact.pixels.numpy().astype(int))
    assert difference.max() <= 2 if dtype == "float32" else difference.mean() <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_does_every_task_and_counts_its_memory(folders: Callable[[str], Path], kind: str) -> None:
    loaded = load(config(), folders(kind))
    assert set(loaded.tasks) == set(DiffusionModel.TASKS)
    assert all(task.encodes_slowly for task in loaded.tasks.values())
    weights = sum(path.stat().st_size for path in folders(kind).rglob("*.safetensors"))
    assert loaded.memory > weights / 2
    assert loaded.limits["max_batch_size"] == 16


def test_a_full_batch_of_guided_rows_fits(folders: Callable[[str], Path]) -> None:
    loaded = load(config(max_batch_size=4), folders("emoji"))
    request = ImageGenerationRequest(model="tiny", prompt="red", n=5)
    rows = loaded.tasks["image"].prepare(request)
    running: list[Any] = []
    for params in rows[:4]:
        assert loaded.sampler.fits(params, running)
        running.append(loaded.sampler.start(params))


def test_configured_defaults_come_before_the_checkpoints(folders: Callable[[str], Path]) -> None:
    sampling = {"steps": 9, "guidance_scale": 2.0, "solver": "dpmpp_2m"}
    loaded = load(config(sampling=sampling), folders("stable_diffusion"))
    (row,) = loaded.tasks["image"].prepare(ImageGenerationRequest(model="tiny", prompt="red"))
    assert (len(row.table), row.guidance_scale, row.table.looks_back) == (9, 2.0, True)


@pytest.mark.parametrize(
    ("kind", "sampling"),
    [
        ("emoji", {"solver": "ddim"}),
        ("stable_diffusion_3", {"solver": "euler"}),
        ("ddpm", {"guidance_scale": 3.0}),
    ],
)
def test_configured_defaults_that_the_model_cannot_follow_are_refused(
    folders: Callable[[str], Path], kind: str, sampling: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedModel, match="tiny cannot be served"):
        load(config(sampling=sampling), folders(kind))


def test_a_class_conditional_model_draws_the_class_that_it_is_asked_for(tmp_path: Path) -> None:
    make_diffusers_checkpoint("ddpm", tmp_path, index={"id2label": {"2": "cat, kitten"}}, num_class_embeds=4)
    loaded = load(config(), tmp_path)
    images = [draw(loaded, prompt=prompt).pixels for prompt in ("2", "kitten", "3")]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
    for wrong in ("4", "dog", "", "1" * 5000):
        with pytest.raises(InvalidRequest, match="a number from 0 to 3, or one of cat, kitten"):
            draw(loaded, prompt=wrong)


def scheduler_of(folder: Path, name: str) -> None:
    """As hub repositories have it: fields that are left at their defaults need not be there."""
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text()) | {"_class_name": name}
    path.write_text(json.dumps({key: value for key, value in config.items() if key != "clip_sample"}))


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("DPMSolverMultistepScheduler", "dpmpp_2m"),
        ("UniPCMultistepScheduler", "dpmpp_2m"),
        ("PNDMScheduler", "dpmpp_2m"),
        ("EulerAncestralDiscreteScheduler", "euler"),
    ],
)
def test_latents_are_never_clipped_unless_the_checkpoint_says_so(tmp_path: Path, name: str, solver: str) -> None:
    make_diffusers_checkpoint("stable_diffusion", tmp_path)
    scheduler_of(tmp_path, name)
    rewrite(tmp_path / "scheduler" / "scheduler_config.json", algorithm_type="dpmsolver", solver_type="bh2")
    if name == "DPMSolverMultistepScheduler":
        rewrite(tmp_path / "scheduler" / "scheduler_config.json", solver_type="midpoint")
    checkpoint = read_checkpoint(tmp_path, torch.float32, CPU)
    assert checkpoint.defaults.solver == solver
    assert not any(checkpoint.schedule.table(each, 5).clips for each in checkpoint.schedule.solvers)


def test_pixels_are_clipped_unless_the_checkpoint_says_otherwise(tmp_path: Path) -> None:
    make_diffusers_checkpoint("ddpm", tmp_path)
    scheduler_of(tmp_path, "DDPMScheduler")
    assert read_checkpoint(tmp_path, torch.float32, CPU).schedule.table("ddpm", 5).clips


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_3"])
@pytest.mark.parametrize("max_pixels", [64, 64 * 64 - 1, 40 * 56, 64 * 40, 100 * 100])
def test_every_size_within_the_limit_fits_alone(folders: Callable[[str], Path], kind: str, max_pixels: int) -> None:
    loaded = load(config(max_pixels=max_pixels, max_batch_size=1), folders(kind))
    sizes = [(width, min(64, max_pixels // width // 8 * 8)) for width in range(8, 65, 8)]
    for size in ["auto", *(f"{width}x{height}" for width, height in sizes if height)]:
        request = ImageGenerationRequest(model="tiny", prompt="red", size=size, steps=2)
        assert loaded.sampler.fits(loaded.tasks["image"].prepare(request)[0], [])


def test_weights_in_half_precision_alone_are_found(tmp_path: Path) -> None:
    make_diffusers_checkpoint("ddpm", tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert draw(load(config(), tmp_path), prompt="").pixels.shape == (16, 16, 3)


@pytest.mark.slow
def test_loading_imports_no_pipeline_and_the_embedded_model_nothing_of_diffusers(
    folders: Callable[[str], Path],
) -> None:
    """They take seconds to import, and every replica would pay for them."""
    program = f"""
import sys
from pathlib import Path
import torch
from services.families.diffusion.family import read_checkpoint
read_checkpoint(Path({str(folders("emoji"))!r}), torch.float32, torch.device("cpu"))
assert not [name for name in sys.modules if name.split(".")[0] == "diffusers"]
read_checkpoint(Path({str(folders("stable_diffusion"))!r}), torch.float32, torch.device("cpu"))
assert not [name for name in sys.modules if name.startswith("diffusers.pipelines")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("kind", "file", "changes", "reason"),
    [
        ("ddpm", "model_index.json", {"_class_name": "FluxPipeline"}, "FluxPipeline cannot be served"),
        ("ddpm", "model_index.json", {"unet": ["diffusers", "UNet1DModel"]}, "its unet is UNet1DModel"),
        ("ddpm", "scheduler/scheduler_config.json", {"thresholding": True}, "thresholding"),
        ("ddpm", "scheduler/scheduler_config.json", {"variance_type": "learned"}, "variance_type"),
        ("ddpm", "scheduler/scheduler_config.json", {"trained_betas": [0.1] * 999}, "trained_betas.*these are 999"),
        ("ddpm", "scheduler/scheduler_config.json", {"_class_name": "ScoreSdeVeScheduler"}, "is ScoreSdeVeScheduler"),
        ("ddpm", "scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "is EDMEulerScheduler"),
        ("stable_diffusion", "scheduler/scheduler_config.json", {"use_flow_sigmas": True}, "use_flow_sigmas"),
        (
            "stable_diffusion_3",
            "scheduler/scheduler_config.json",
            {"use_dynamic_shifting": True},
            "use_dynamic_shifting",
        ),
        (
            "stable_diffusion_3",
            "model_index.json",
            {"text_encoder_2": ["transformers", "T5EncoderModel"]},
            "its text_encoder_2 is T5EncoderModel",
        ),
        ("stable_diffusion_xl", "model_index.json", {"requires_aesthetics_score": True}, "refines images"),
    ],
)
def test_what_is_not_known_here_is_refused_with_its_reason(
    tmp_path: Path, kind: str, file: str, changes: dict[str, Any], reason: str
) -> None:
    make_diffusers_checkpoint(kind, tmp_path)
    rewrite(tmp_path / file, **changes)
    with pytest.raises(UnsupportedModel, match=reason):
        load(config(), tmp_path)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("stable_diffusion", {"in_channels": 9}, "takes 9 channels"),
        ("stable_diffusion", {"time_cond_proj_dim": 8}, "guidance is distilled"),
        ("ddpm", {"out_channels": 6}, "predicts a variance"),
    ],
)
def test_a_network_of_another_make_is_refused(tmp_path: Path, kind: str, changes: dict[str, Any], reason: str) -> None:
    make_diffusers_checkpoint(kind, tmp_path, **changes)
    with pytest.raises(UnsupportedModel, match=reason):
        load(config(), tmp_path)


def test_a_folder_of_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UnsupportedModel, match="neither built in nor a diffusers folder"):
        read_checkpoint(tmp_path, torch.float32, CPU)
