"""Owns drawing many documents at once for evaluation and sheets, outside of the engine."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.families.recurrent.model import RecurrentLM
from services.nn.rng import derive_seed, row_generator
from services.nn.text.params import SamplingOptions
from services.nn.text.sampling import Choice, Seen, choose_tokens


@torch.inference_mode()
def draw_tokens(
    net: RecurrentLM, prompts: Sequence[Sequence[int]], longest: int, *, seed: int, temperature: float = 1.0
) -> list[list[int]]:
    """What follows each prompt, up to `longest` tokens, without EOS; row i draws from (seed, i).

    One that has not ended by then is cut. Prompts hold at least one token each.
    """
    options = SamplingOptions(temperature=temperature)
    generators = [row_generator(derive_seed(seed, row)) for row in range(len(prompts))]
    outputs, state = net.read(prompts, net.fresh_state(len(prompts)))
    output = torch.stack([each[-1] for each in outputs])
    drawn: list[list[int]] = [[] for _ in prompts]
    running = list(range(len(prompts)))
    for _ in range(longest):
        choices = [
            Choice(options, Seen(None, None), torch.rand((), generator=generators[row]).item()) for row in running
        ]
        tokens = choose_tokens(net.head(output).float(), choices).tokens
        going = [place for place, token in enumerate(tokens) if token != net.config.eos]
        for place in going:
            drawn[running[place]].append(tokens[place])
        running = [running[place] for place in going]
        if not running:
            break
        ids = torch.tensor([tokens[place] for place in going], device=state.device)
        output, state = net.advance(ids, state[:, :, going])
    return drawn
