"""Writes the chart's README.md from prose, values.yaml and classes: `python -m deploy.generate_readme [--check]`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deploy.chart_parts import ChartModel, PodResources, RayResources, SecretEntry
from deploy.chart_values import ChartSettings, ChartValues
from deploy.generated import main

CHART = Path(__file__).parent / "chart" / "castalia"
PROSE = Path(__file__).parent / "chart_readme.md"
README = CHART / "README.md"
# Rows of their own: what is in them is always the same.
WHOLE = (PodResources, RayResources, SecretEntry)
AS_IN_MODELS_YAML = {
    "services": "what runs: the entries of `models.yaml`, unchanged",
    "routes": "names that stand for models: the entries of `models.yaml`, unchanged",
}


@dataclass(frozen=True, slots=True)
class Row:
    path: str
    default: str
    meaning: str

    def __str__(self) -> str:
        cells = (f"`{self.path}`", f"`{self.default}`" if self.default else "", self.meaning.replace("|", "\\|"))
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True, slots=True)
class Section:
    """A value at the top with all that is in it."""

    name: str
    about: str
    rows: tuple[Row, ...]


def sections() -> list[Section]:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    comments = _comments((CHART / "values.yaml").read_text())
    found: list[Section] = []
    loose: list[Row] = []
    for name, field in ChartValues.model_fields.items():
        key = field.alias or name
        if key == "global":
            continue
        if key in AS_IN_MODELS_YAML:
            loose.append(Row(key, "", AS_IN_MODELS_YAML[key]))
        elif (model := _model_of(field)) is None:
            loose.append(Row(key, _shown(values.get(key)), comments.get(key) or field.description or ""))
        else:
            prefix = f"{key}[]" if get_origin(field.annotation) is tuple else key
            given = values[key] if isinstance(values[key], dict) else {}
            about = (model.__doc__ or field.description or "").split("\n\n")[0].strip()
            found.append(Section(key, about, tuple(_rows(model, prefix, given, comments))))
    return [Section("the whole", "", tuple(loose)), *found]


def _rows(model: type[BaseModel], prefix: str, given: Mapping[str, Any], comments: Mapping[str, str]) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        path = f"{prefix}.{key}"
        inner = _model_of(field)
        if inner is not None and inner not in WHOLE and get_origin(field.annotation) is not tuple:
            yield from _rows(inner, path, given.get(key, {}), comments)
            continue
        meaning = comments.get(path) or field.description or (inner.__doc__ if inner else "") or ""
        yield Row(path, _shown(given.get(key, _default(field))), " ".join(meaning.split()))


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The class of the chart's own that a field holds, or holds several of."""
    inner = get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else field.annotation
    if isinstance(inner, type) and (issubclass(inner, ChartModel) or inner is ChartSettings):
        return inner
    return None


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return None if field.is_required() or default is None else json.loads(json.dumps(default, default=int))


def _shown(value: Any) -> str:
    return "" if value in (None, "", [], {}) else json.dumps(value, ensure_ascii=False).strip('"')


def _comments(text: str) -> dict[str, str]:
    """The comment at the end of a key's line in values.yaml, by the key's path. Lists of services have none to read."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = re.match(r"^( *)(\w+):(.*)$", line)
        if match is None:
            continue
        indent = len(match[1])
        path = [*((depth, key) for depth, key in path if depth < indent), (indent, match[2])]
        _, mark, comment = match[3].partition("  # ")
        if mark:
            found[".".join(key for _, key in path)] = comment.strip()
    return found


def readme_text() -> str:
    parts = [PROSE.read_text().rstrip("\n")]
    for section in sections():
        head = "" if section.name == "the whole" else f"### {section.name}\n\n"
        about = f"{section.about}\n\n" if section.about else ""
        rows = "\n".join(map(str, section.rows))
        parts.append(f"{head}{about}| value | default | meaning |\n|---|---|---|\n{rows}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main("deploy.generate_readme", __doc__, lambda: {README: readme_text()}))
