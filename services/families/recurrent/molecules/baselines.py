"""Owns what MOSES publishes of its own models: figures to stand beside ours. Measures nothing.

From the table of Polykovskiy 2020 (arXiv:1811.12823), as https://github.com/molecularsets/moses has it: 30,000 drawn
molecules of each model, compared with the whole test part, at temperature 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

NAMES = ("valid", "unique_at_1k", "unique_at_10k", "fcd", "snn", "frag", "scaf", "internal_diversity", "novelty")
_TABLE: Mapping[str, tuple[float, ...]] = {
    "training molecules": (1.0, 1.0, 1.0, 0.008, 0.6419, 1.0, 0.9907, 0.8567, 1.0),
    "HMM": (0.076, 0.623, 0.5671, 24.4661, 0.3876, 0.5754, 0.2065, 0.8466, 0.9994),
    "NGram": (0.2376, 0.974, 0.9217, 5.5069, 0.5209, 0.9846, 0.5302, 0.8738, 0.9694),
    "Combinatorial": (1.0, 0.9983, 0.9909, 4.2375, 0.4514, 0.9912, 0.4445, 0.8732, 0.9878),
    "CharRNN": (0.9748, 1.0, 0.9994, 0.0732, 0.6015, 0.9998, 0.9242, 0.8562, 0.8419),
    "VAE": (0.9767, 1.0, 0.9984, 0.099, 0.6257, 0.9994, 0.9386, 0.8558, 0.6949),
}
NAME = "CharRNN of MOSES"
CHAR_RNN: Mapping[str, float] = dict(zip(NAMES, _TABLE["CharRNN"], strict=True))


def notes() -> Iterator[str]:
    """A sentence on the table, and one a model of it."""
    yield (
        "MOSES's own models, as it publishes them (30,000 drawn at temperature 1; Polykovskiy 2020, "
        "[arXiv:1811.12823](https://arxiv.org/abs/1811.12823)). Its CharRNN has three layers of 768 and was "
        "trained for 80 epochs."
    )
    for model, values in _TABLE.items():
        yield f"{model}: " + ", ".join(f"{name} {value:g}" for name, value in zip(NAMES, values, strict=True)) + "."
