"""The table of recipes: which models are trained here, and by what. The second table that names families.

A recipe is imported on demand: one that cannot be hinders no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

from services.training.errors import UnknownRecipe
from services.training.recipe import Recipe

RECIPES: Mapping[str, str] = {
    "dances-gru": "services.families.recurrent.music.recipe:DancesGru",
    "digits-dbm": "services.families.boltzmann.train:DigitsDbm",
    "digits-ebm": "services.families.ebm.train:DigitsEbm",
    "digits-flow": "services.families.flow.train:DigitsFlow",
    "digits-gan": "services.families.gan.train:DigitsGan",
    "digits-ode": "services.families.neural_ode.train:DigitsOde",
    "digits-pixelcnn": "services.families.pixelcnn.train:DigitsPixelCnn",
    "digits-rbm": "services.families.boltzmann.train:DigitsRbm",
    "emoji-diffusion": "services.families.diffusion.train:EmojiDiffusion",
    "emoji-gan": "services.families.gan.train:EmojiGan",
    "emoji-vae": "services.families.vae.train:EmojiVae",
    "forecast-lstm": "services.families.recurrent.forecasts.recipe:ForecastLstmRecipe",
    "molecules-lstm": "services.families.recurrent.molecules.recipe:MoleculesLstm",
    "records-flow": "services.families.flow.train:RecordsFlow",
    "records-vae": "services.families.vae.train:RecordsVae",
    "series-ode": "services.families.neural_ode.train:SeriesOde",
    "sokoban-pixelcnn": "services.families.pixelcnn.train:SokobanPixelCnn",
    "sounds": "services.families.autoregressive.train:DrumSounds",
    "spoken-words": "services.families.autoregressive.train:SpokenWords",
    "story-gpt": "services.families.transformer.train:StoryGpt",
    "verse-lstm": "services.families.recurrent.text.recipes:VerseLstm",
    "verse-rnn": "services.families.recurrent.text.recipes:VerseRnn",
}


def load_recipe(reference: str) -> Recipe:
    """The recipe behind a `module:attribute`: the attribute is called without arguments."""
    module, _, name = reference.partition(":")
    return cast(Callable[[], Recipe], getattr(import_module(module), name))()


def recipe_reference(name: str, table: Mapping[str, str] = RECIPES) -> str:
    """The reference of a recipe of the table; a name that is a `module:attribute` itself is one outside of it.

    Raises UnknownRecipe, which names the ones that there are.
    """
    if ":" in name:
        return name
    if name not in table:
        raise UnknownRecipe(name, known=tuple(table))
    return table[name]
