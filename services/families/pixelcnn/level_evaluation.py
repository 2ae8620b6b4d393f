"""Owns the measuring of a published model of levels: bits, what is well-formed, what can be played, what is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from services.families.pixelcnn.drawing import SEED, draw_levels, load_for_measuring
from services.families.pixelcnn.evaluation import marginal_log_likelihoods, pixel_marginals
from services.families.pixelcnn.level_data import LevelSet, LevelSplit, example, read_sample
from services.families.pixelcnn.likelihood import bits_of, log_likelihoods
from services.families.pixelcnn.model import GatedPixelCnn
from services.families.pixelcnn.params import Values
from services.families.pixelcnn.sheets import level_sheet
from services.families.pixelcnn.sokoban import Tile, canonical, is_well_formed
from services.families.pixelcnn.sokoban_solver import solve
from services.families.pixelcnn.sources import in_all_symmetries, level_grids
from services.training.recipe import Evaluation, Figure
from shared.config.pixelcnn import PixelCnnLevelModel
from shared.schemas.levels import LevelGenerationRequest

_DRAWN = 500  # first attempts
_SERVED = 100  # as a request with the default number of attempts gets them, and solved
_REAL = 40
_FORMS = 2000  # of training levels, that the marginals are counted in
ATTEMPTS: int = LevelGenerationRequest.model_fields["attempts"].default
_BY_CHANCE = "tiles drawn each by itself"
TEMPERATURE: float = PixelCnnLevelModel.model_fields["temperature"].default
MAX_NODES: int = PixelCnnLevelModel.model_fields["max_nodes"].default


def evaluate_levels(weights: Path, split: LevelSplit) -> Evaluation:
    """Every figure and sheet of a folder of weights; some two minutes on a core."""
    model = load_for_measuring(weights)
    marginals = _marginals(model, split.train)
    first = [chunk.level for chunk in draw_levels(model, _DRAWN, temperature=TEMPERATURE)]
    served = draw_levels(model, _SERVED, attempts=ATTEMPTS, temperature=TEMPERATURE)
    verdicts = Counter(solve(chunk.level, MAX_NODES).verdict for chunk in served)
    by_chance = _drawn_by_chance(marginals)
    figures = [
        _bits_figure(model, split, marginals),
        sample_figure(model, weights),
        *_form_figures(first, [chunk.well_formed for chunk in served], by_chance),
        *_play_figures(verdicts, split, by_chance),
        *novelty_figures([level for level in first if is_well_formed(level)], split.train),
    ]
    good = [chunk.level for chunk in served if chunk.well_formed]
    sheets = {
        "levels": level_sheet((good or first)[:20], columns=5),
        "first_attempts": level_sheet(first[:20], columns=5),
    }
    return Evaluation(figures, sheets, _notes(verdicts))


def _marginals(model: GatedPixelCnn, levels: LevelSet) -> torch.Tensor:
    """(1, H, W, K): how often each tile is at each place, over training levels in all their forms."""
    draws = torch.Generator().manual_seed(SEED)
    forms = [example(levels.levels[i % len(levels.levels)], model.config.width, draws) for i in range(_FORMS)]
    return pixel_marginals(level_grids(forms), model.config.values)


def _bits_figure(model: GatedPixelCnn, split: LevelSplit, marginals: torch.Tensor) -> Figure:
    grids = level_grids(in_all_symmetries(split.held_out.beginnings, model.config.width))
    cells = grids[0][0].numel()
    return Figure(
        "bits_per_tile",
        bits_of(log_likelihoods(model, *grids).mean().item(), cells),
        "lower",
        tolerance=0.005,
        baseline=bits_of(marginal_log_likelihoods(marginals, grids).mean().item(), cells),
        baseline_name="each tile by itself, as often at its place as in training levels",
        meaning=f"exact, of {len(split.held_out.levels)} held-out levels in all symmetries; uniform is 3",
    )


def sample_figure(model: GatedPixelCnn, weights: Path) -> Figure:
    """Of the sample that lies beside the weights."""
    grids = level_grids(in_all_symmetries(read_sample(weights), model.config.width)[::8])
    return Figure(
        "sample_bits_per_tile",
        bits_of(log_likelihoods(model, *grids).mean().item(), grids[0][0].numel()),
        "lower",
        tolerance=0.001,
        meaning=f"the same of the {len(grids[0])} levels of the committed sample, in one symmetry each",
    )


def _drawn_by_chance(marginals: torch.Tensor) -> list[Values]:
    """The baseline: each tile drawn by itself."""
    draws = torch.Generator().manual_seed(SEED)
    height, width, tiles = marginals.shape[1:]
    drawn = torch.multinomial(marginals.view(-1, tiles), _DRAWN, replacement=True, generator=draws)
    return list(drawn.T.reshape(-1, height, width).numpy())


def _form_figures(first: Sequence[Values], served: Sequence[bool], by_chance: Sequence[Values]) -> list[Figure]:
    chance = _share([is_well_formed(level) for level in by_chance])
    return [
        Figure(
            "well_formed_at_first",
            _share([is_well_formed(level) for level in first]),
            "higher",
            tolerance=0.05,
            baseline=chance,
            baseline_name=_BY_CHANCE,
            meaning=f"share of {len(first)} drawn levels that are closed, with one player and as many boxes as goals",
        ),
        Figure(
            "well_formed",
            _share(served),
            "higher",
            tolerance=0.08,
            baseline=1 - (1 - chance) ** ATTEMPTS,
            baseline_name=_BY_CHANCE,
            meaning=f"the same of {len(served)} levels with the {ATTEMPTS} attempts that a request has by default",
        ),
    ]


def _play_figures(verdicts: Counter[str], split: LevelSplit, by_chance: Sequence[Values]) -> list[Figure]:
    real = [*split.held_out.beginnings, *split.train.beginnings][:_REAL]
    solved = _share([solve(level, MAX_NODES).verdict == "true" for level in real])
    count = verdicts.total()
    return [
        Figure(
            "playable",
            verdicts["true"] / count,
            "higher",
            tolerance=0.1,
            baseline=_share([solve(level, MAX_NODES).verdict == "true" for level in by_chance]),
            baseline_name=_BY_CHANCE,
            meaning=f"share of those {count} levels that the solver finds a solution of",
        ),
        Figure(
            "unsolvable",
            verdicts["false"] / count,
            "lower",
            tolerance=0.1,
            meaning="share that is not well-formed, or shown to have no solution; of the rest nothing is known",
        ),
        Figure(
            "playable_of_real_levels",
            solved,
            "higher",
            tolerance=0.05,
            meaning=f"share of {len(real)} published levels, all of which have a solution, that the solver solves",
        ),
    ]


def novelty_figures(levels: Sequence[Values], known: LevelSet) -> list[Figure]:
    """Of well-formed levels. Positions of a training level have its walls, so walls alone are compared as well."""
    whole = {canonical(tiles.long().numpy()) for positions in known.levels for tiles in positions}
    walls = {canonical(walls_of(level)) for level in known.beginnings}
    return [
        Figure(
            "new",
            _share([canonical(level) not in whole for level in levels]),
            "higher",
            tolerance=0.05,
            meaning=f"share of the {len(levels)} well-formed first attempts that are no training level, nor a position "
            "on the way to its solution, in any symmetry",
        ),
        Figure(
            "new_walls",
            _share([canonical(walls_of(level)) not in walls for level in levels]),
            "higher",
            tolerance=0.1,
            meaning="share of those whose walls are not the walls of a training level, in any symmetry",
        ),
    ]


def walls_of(level: Values) -> Values:
    """The walls alone."""
    return np.where(level == Tile.WALL, Tile.WALL, Tile.OUTSIDE).astype(np.int64)


def _share(each: Sequence[bool]) -> float:
    return float(np.mean(each)) if each else 0.0


def _notes(verdicts: Counter[str]) -> list[str]:
    counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("true", "false", "unknown"))
    return [
        f"Levels are drawn at temperature {TEMPERATURE:g}, which a request gets that says nothing else.",
        f"Playable of {verdicts.total()} levels: {counts}. The solver looks into {MAX_NODES:,} positions of a level at "
        "most: what it gives up is `unknown`, and may be easy for a person.",
        "Nothing is mended: a level that is not well-formed is drawn anew, up to the request's `attempts`, then given "
        "as it is with `well_formed` false.",
    ]
