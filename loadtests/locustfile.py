"""`locust -f loadtests/locustfile.py --host http://127.0.0.1:8000`: load a fleet as its users do. See README.md."""

from __future__ import annotations

from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.generator.options import add_options
from loadtests.generator.roles import install
from loadtests.users.base import MixedUser
from loadtests.users.chat import ChatUser
from loadtests.users.completions import CompletionUser
from loadtests.users.edits import EditUser, ReconstructionUser, VariationUser
from loadtests.users.embeddings import EmbeddingUser
from loadtests.users.forecasts import ForecastUser
from loadtests.users.images import ImageUser, InterpolationUser
from loadtests.users.levels import LevelUser
from loadtests.users.molecules import MoleculeUser
from loadtests.users.music import MusicUser
from loadtests.users.records import RecordUser
from loadtests.users.scores import ScoreUser
from loadtests.users.sounds import SoundUser, SpeechUser

# Locust runs the mixed users unless others are named.
__all__ = [
    "ChatUser",
    "CompletionUser",
    "EditUser",
    "EmbeddingUser",
    "ForecastUser",
    "ImageUser",
    "InterpolationUser",
    "LevelUser",
    "MixedUser",
    "MoleculeUser",
    "MusicUser",
    "ReconstructionUser",
    "RecordUser",
    "ScoreUser",
    "SoundUser",
    "SpeechUser",
    "VariationUser",
]


@events.init_command_line_parser.add_listener
def on_parser(parser: LocustArgumentParser) -> None:
    add_options(parser)


@events.init.add_listener
def on_init(environment: Environment, **_: Any) -> None:
    install(environment)
