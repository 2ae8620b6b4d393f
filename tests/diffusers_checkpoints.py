"""Tiny random diffusers checkpoints of real kinds, written by diffusers' own pipelines: same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TOKENS = 16  # of a prompt
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_LATENT_BETAS = {**_BETAS, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level tokens without merges: every letter is one, and another at the end of a word."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=TOKENS, pad_token="<|endoftext|>"
    )


def _text(kind: Any, tokenizer: CLIPTokenizer, width: int, layers: int = 2) -> Any:
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _autoencoder(**changes: Any) -> AutoencoderKL:
    shape: dict[str, Any] = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 32,
    }
    return AutoencoderKL(**{**shape, **changes})


def _unet(**changes: Any) -> UNet2DConditionModel:
    shape: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**shape, **changes})


def _ddpm(scheduler: Any = None, **changes: Any) -> Any:
    shape: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return DDPMPipeline(unet=UNet2DModel(**{**shape, **changes}), scheduler=scheduler or DDPMScheduler())


def _stable_diffusion(scheduler: Any = None, **changes: Any) -> Any:
    tokenizer = make_tokenizer()
    return StableDiffusionPipeline(
        vae=_autoencoder(),
        text_encoder=_text(CLIPTextModel, tokenizer, 16),
        tokenizer=tokenizer,
        unet=_unet(**changes),
        scheduler=scheduler or DDIMScheduler(**_LATENT_BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _stable_diffusion_xl(scheduler: Any = None, **changes: Any) -> Any:
    tokenizer = make_tokenizer()
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 24,
        "cross_attention_dim": 16 + 24,
    }
    return StableDiffusionXLPipeline(
        vae=_autoencoder(),
        text_encoder=_text(CLIPTextModel, tokenizer, 16),
        text_encoder_2=_text(CLIPTextModelWithProjection, tokenizer, 24),
        tokenizer=tokenizer,
        tokenizer_2=make_tokenizer(),
        unet=_unet(**{**added, **changes}),
        scheduler=scheduler or EulerDiscreteScheduler(**_BETAS, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )


def _stable_diffusion_3(scheduler: Any = None, **changes: Any) -> Any:
    tokenizer = make_tokenizer()
    shape: dict[str, Any] = {
        "sample_size": 16,
        "patch_size": 2,
        "in_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 48,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 16 + 24,
        "out_channels": 4,
        "pos_embed_max_size": 16,
    }
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**{**shape, **changes}),
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_autoencoder(shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_text(CLIPTextModelWithProjection, tokenizer, 16),
        tokenizer=tokenizer,
        text_encoder_2=_text(CLIPTextModelWithProjection, tokenizer, 24),
        tokenizer_2=make_tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    )


PIPELINES: Mapping[str, Callable[..., Any]] = {
    "ddpm": _ddpm,
    "stable_diffusion": _stable_diffusion,
    "stable_diffusion_xl": _stable_diffusion_xl,
    "stable_diffusion_3": _stable_diffusion_3,
}


def make_pipeline(kind: str, *, seed: int = 0, scheduler: Any = None, **changes: Any) -> Any:
    """diffusers' own pipeline with random weights. `changes` go to the denoising network's configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = PIPELINES[kind](scheduler, **changes)
        # Fresh networks end in small weights: widen what makes them differ from the identity.
        for module in (getattr(pipeline, "unet", None) or pipeline.transformer,):
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    parameter.data.mul_(1.5)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_diffusers_checkpoint(
    kind: str, folder: Path, *, index: Mapping[str, Any] | None = None, **options: Any
) -> Path:
    """Write a checkpoint as `save_pretrained` does; return the folder. `index` changes model_index.json."""
    make_pipeline(kind, **options).save_pretrained(folder, safe_serialization=True)
    if index:
        path = folder / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | index))
    return folder
