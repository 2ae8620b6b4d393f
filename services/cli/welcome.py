"""Owns what a fleet that is ready says: its URL, and what to try with the models that it has."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.context import DEFAULT_URL

if TYPE_CHECKING:
    from services.fleet import FleetState
    from shared.config.models import FleetConfig

CHAT = """
  {castalia} chat{options}

  curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="none")
  question = {{"role": "user", "content": "What is the capital of France?"}}
  answer = client.chat.completions.create(model="{model}", messages=[question])
  print(answer.choices[0].message.content)
"""
IMAGE = """
  {castalia} generate image "red heart" --model {model} --out heart.png{options}
"""
COMPLETION = """
  {castalia} generate "Once upon a time" --model {model}{options}
"""
TO_TRY = (("chat", CHAT), ("completion", COMPLETION), ("image", IMAGE))
SAME_KIND = {"completion": "chat"}  # who can chat is not shown completing as well


def welcome(state: FleetState, config: FleetConfig) -> str:
    """For each thing that some model does, how to have the first such model do it."""
    first: dict[str, str] = {}
    for service in config.services:
        for model in service.models:
            for task in model.does:
                first.setdefault(task, model.id)
    options = "" if state.url == DEFAULT_URL else f" --url {state.url}"
    things = [
        text.format(castalia=program(), url=state.url, model=first[task], options=options)
        for task, text in TO_TRY
        if task in first and SAME_KIND.get(task) not in first
    ]
    return f"Ready at {state.url}, which {state.url}/docs describes\n\nTry:\n" + "".join(things)


def program() -> str:
    """How to call this program from here: by its name if a shell finds it, else by its path."""
    beside = Path(sys.executable).with_name("castalia")
    if shutil.which("castalia") is not None or not beside.exists():
        return "castalia"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
