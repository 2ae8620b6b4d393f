"""Owns the parts of a diffusers checkpoint: one subfolder each, loaded from safetensors alone, never by a pipeline."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from pydantic import ValidationError
from torch import Tensor, nn
from transformers import CLIPTokenizer

from services.families.diffusion.denoiser import Prompt, Shape
from services.nn.errors import UnsupportedModel
from services.nn.linears import pack_linears, packed_bytes
from services.nn.noise_schedules import FlowConfig, FlowSchedule, GaussianConfig, GaussianSchedule
from shared.errors import ContextTooLong
from shared.schemas.images import Solver

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Json = Mapping[str, Any]

PROMPTS_A_STEP = 4  # through CLIP's encoders: a fraction of a denoising step

# The solver that each scheduler of diffusers is. All are of variance-preserving noise: others mean something else by
# the same fields.
_SOLVERS: Mapping[str, Solver] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "EulerDiscreteScheduler": "euler",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
}
# Those that are not ours: the nearest stands in, of the same noise.
_STAND_INS: Mapping[str, Solver] = {
    "PNDMScheduler": "dpmpp_2m",
    "DEISMultistepScheduler": "dpmpp_2m",
    "DPMSolverSinglestepScheduler": "dpmpp_2m",
    "UniPCMultistepScheduler": "dpmpp_2m",
    "EulerAncestralDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "euler",
    "LMSDiscreteScheduler": "euler",
}
_OF_A_SOLVER = ("algorithm_type", "solver_type")  # mean something else to the scheduler that is stood in for
_FLOW = "FlowMatchEulerDiscreteScheduler"


@dataclass(frozen=True, slots=True)
class Folder:
    """A diffusers checkpoint on disk, and where its parts are to live."""

    path: Path
    index: Json  # model_index.json
    dtype: torch.dtype
    device: torch.device

    @property
    def pipeline(self) -> str:
        return str(self.index.get("_class_name", "an unnamed pipeline"))

    def refuse(self, reason: str) -> UnsupportedModel:
        return UnsupportedModel(self.pipeline, reason)

    def has(self, part: str) -> bool:
        """Whether the checkpoint has the part at all: the index names absent ones with nulls."""
        return any(cast("list[object]", self.index.get(part) or []))

    def config(self, part: str, name: str = "config.json") -> Json:
        return cast(Json, json.loads((self.path / part / name).read_text()))

    def load(self, kind: type[ModuleT], part: str, dtype: torch.dtype | None = None) -> ModuleT:
        """One part, in evaluation mode. Raises UnsupportedModel if the index names another class."""
        named = cast("list[str | None]", self.index.get(part) or [None, None])
        if named[-1] != kind.__name__:
            raise self.refuse(f"its {part} is {named[-1]}, not {kind.__name__}")
        loader: Any = kind
        module = loader.from_pretrained(
            self.path,
            subfolder=part,
            dtype=dtype or self.dtype,
            use_safetensors=True,
            local_files_only=True,
            variant=self._variant(part),
        )
        module = cast(ModuleT, module.to(self.device).eval())
        return module.requires_grad_(False)

    def _variant(self, part: str) -> str | None:
        """`fp16` where the folder has no other weights."""
        names = [path.name for path in (self.path / part).glob("*.safetensors")]
        return "fp16" if names and all(".fp16" in name for name in names) else None


def read_index(folder: Path, dtype: torch.dtype, device: torch.device) -> Folder:
    return Folder(folder, cast(Json, json.loads((folder / "model_index.json").read_text())), dtype, device)


def read_schedule(folder: Folder) -> tuple[GaussianSchedule | FlowSchedule, Solver]:
    """The checkpoint's noise schedule, and the solver that it names or the nearest. Raises UnsupportedModel."""
    config = folder.config("scheduler", "scheduler_config.json")
    name = str(config.get("_class_name"))
    try:
        if name == _FLOW:
            return FlowConfig.model_validate(config).schedule(), "flow_euler"
        solver = _SOLVERS.get(name) or _STAND_INS.get(name)
        if solver is None:
            raise folder.refuse(f"its scheduler is {name}")
        if name in _STAND_INS:
            config = {key: value for key, value in config.items() if key not in _OF_A_SOLVER}
        if folder.has("vae"):  # pixels end at +-1, latents nowhere
            config = {"clip_sample": False, **config}
        return GaussianSchedule(GaussianConfig.model_validate(config)), solver
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise folder.refuse(f"its scheduler's {field} is {reprlib.repr(first['input'])}: {first['msg']}") from error


def quick(module: nn.Module, device: torch.device) -> None:
    """Bring weights into the form that is fastest where they are."""
    cast(Any, module).to(memory_format=torch.channels_last)
    if device.type == "cpu":
        pack_linears(module)


def weights_bytes(*modules: nn.Module) -> int:
    return sum(
        sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()]) + packed_bytes(module)
        for module in modules
    )


class ClipTokenizer:
    """CLIP's tokens: begin, text, end, then padding up to the encoder's length. Any thread may call it."""

    def __init__(self, folder: Folder, part: str) -> None:
        tokenizer = cast(Any, CLIPTokenizer).from_pretrained(folder.path, subfolder=part, local_files_only=True)
        self._encode = tokenizer.encode
        self.length = int(tokenizer.model_max_length)
        self._padding = int(tokenizer.pad_token_id)

    def read(self, text: str, param: str) -> tuple[int, ...]:
        """Padded ids. Raises ContextTooLong: what does not fit would be left out unseen."""
        # No padding or truncation here: both would change the tokenizer, which threads share.
        ids = cast("list[int]", self._encode(text))
        if len(ids) > self.length:
            raise ContextTooLong(limit=self.length, got=len(ids), param=param)
        return (*ids, *[self._padding] * (self.length - len(ids)))

    def count(self, text: str) -> int:
        """Tokens of the text itself."""
        return max(0, len(cast("list[int]", self._encode(text))) - 2)


def read_all(tokenizers: Sequence[ClipTokenizer], text: str, param: str) -> Prompt:
    return Prompt(tuple(tokenizer.read(text, param) for tokenizer in tokenizers), tokenizers[0].count(text))


def ids_of(prompts: Sequence[Prompt], tokenizer: int, device: torch.device) -> Tensor:
    """int64 (B, L)."""
    return torch.tensor([prompt.ids[tokenizer] for prompt in prompts], dtype=torch.int64, device=device)


class Autoencoder:
    """The latent code of a Stable Diffusion checkpoint (Rombach et al. 2022, arXiv:2112.10752).

    float16 is too narrow for some: there it runs in float32.
    """

    def __init__(self, folder: Folder) -> None:
        dtype = torch.float32 if folder.dtype == torch.float16 else folder.dtype
        self.model = folder.load(AutoencoderKL, "vae", dtype)
        config = cast(Any, self.model).config
        if config.get("latents_mean") is not None or config.get("latents_std") is not None:
            raise folder.refuse("its autoencoder shifts each latent channel by its own mean")
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        self.channels, self.latent_channels = int(config.in_channels), int(config.latent_channels)
        self._widest = int(max(config.block_out_channels[:2]))
        self._scale, self._shift = float(config.scaling_factor), float(config.get("shift_factor") or 0.0)
        self._dtype = dtype
        quick(self.model, folder.device)

    def encode(self, images: Tensor) -> Tensor:
        """The mode of the code's distribution, so that an image always has the same code."""
        posterior: Any = self.model.encode(images.to(self._dtype), return_dict=False)[0]
        return (posterior.mode() - self._shift) * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        scaled = latents / self._scale + self._shift
        return cast(Tensor, cast(Any, self.model).decode(scaled.to(self._dtype), return_dict=False)[0])

    def memory(self, latent: Shape) -> int:
        """Bytes of one image's decoding: some six maps of the widest layer at full size."""
        _, height, width = latent
        return 6 * height * width * self.factor**2 * self._widest * self._dtype.itemsize


class LatentDenoiser:
    """What every denoiser of an autoencoder's latents shares: the way there and back, one image a step.

    Raises UnsupportedModel if `network`, the part of this name, does not take and give the autoencoder's channels.
    """

    images_a_step = 1
    prompts_a_step = PROMPTS_A_STEP
    guides = True
    blends = True

    def __init__(self, folder: Folder, part: str, network: nn.Module) -> None:
        self.autoencoder = Autoencoder(folder)
        self.dtype, self.device = folder.dtype, folder.device
        config = self.config = cast(Any, network).config
        if config.in_channels != self.autoencoder.latent_channels or config.out_channels != config.in_channels:
            raise folder.refuse(f"its {part} takes {config.in_channels} channels and gives {config.out_channels}")

    def to_latents(self, images: Tensor) -> Tensor:
        return self.autoencoder.encode(images)

    def to_images(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents)

    def codec_memory(self, latent: Shape) -> int:
        return self.autoencoder.memory(latent)
