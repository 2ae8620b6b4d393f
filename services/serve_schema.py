"""Owns the strict reading of Ray Serve's configuration: what Ray itself would drop or take in silence.

`ServeDeploySchema` ignores keys that it does not know, at most depths, and lets a replica range be empty. Importing
this module does not import Ray.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError


class NoServeConfig(Exception):
    """The text holds no configuration of Ray Serve; the message says what it holds."""


def deploy_schema() -> type[BaseModel]:
    """Ray Serve's own class of a whole configuration. Its import warns of Ray's own deprecated calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - see the module's docstring
    return ServeDeploySchema


def faults(config: object) -> list[str]:
    """What is wrong with a configuration, one line each: `path: what`. Empty: Ray Serve takes all of it."""
    schema = deploy_schema()
    found = [f"{key}: Ray Serve knows no such key" for key in unknown_keys(config, schema)]
    try:
        schema.model_validate(config)
    except ValidationError as error:
        lines = (f"{_place(fault['loc'])}: {fault['msg']}" for fault in error.errors(include_url=False))
        found += [line for line in lines if line.partition(":")[0] not in {each.partition(":")[0] for each in found}]
    return found + list(_empty_ranges(config))


def unknown_keys(config: object, annotation: Any, path: str = "") -> list[str]:
    """Keys of `config`, at any depth, that the pydantic class does not have: Ray Serve drops those in silence."""
    if isinstance(config, list):
        inner = next(iter(get_args(_optional(annotation))), Any)
        return [key for i, item in enumerate(config) for key in unknown_keys(item, inner, f"{path}[{i}]")]
    model = _model_of(annotation)
    if not _is_mapping(config) or model is None:
        return []
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    found: list[str] = []
    for key, value in config.items():
        here = f"{path}.{key}".lstrip(".")
        found += unknown_keys(value, fields[key], here) if key in fields else [here]
    return found


def read_serve_config(text: str) -> dict[str, Any]:
    """The configuration in a YAML text: itself, or that of the one RayService in it. Raises NoServeConfig."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise NoServeConfig(f"not YAML: {error}") from error
    services = [each for each in documents if _is_mapping(each) and each.get("kind") == "RayService"]
    if len(services) > 1:
        raise NoServeConfig(f"{len(services)} RayServices, and one is looked at at a time")
    if services:
        return config_of(services[0])
    if len(documents) != 1 or not _is_mapping(documents[0]):
        raise NoServeConfig("neither a RayService nor a configuration of Ray Serve")
    return dict(documents[0])


def config_of(ray_service: Mapping[str, Any]) -> dict[str, Any]:
    """What a RayService deploys. Raises NoServeConfig."""
    spec = ray_service.get("spec")
    text = spec.get("serveConfigV2") if _is_mapping(spec) else None
    config: object = yaml.safe_load(text) if isinstance(text, str) else None
    if not _is_mapping(config):
        raise NoServeConfig("the RayService has no spec.serveConfigV2")
    return dict(config)


def _empty_ranges(config: object, path: str = "") -> Iterator[str]:
    if isinstance(config, list):
        for i, item in enumerate(config):
            yield from _empty_ranges(item, f"{path}[{i}]")
    elif _is_mapping(config):
        least, most = config.get("min_replicas"), config.get("max_replicas")
        if isinstance(least, int) and isinstance(most, int) and least > most:
            yield f"{path}: min_replicas ({least}) is over max_replicas ({most})"
        for key, value in config.items():
            yield from _empty_ranges(value, f"{path}.{key}".lstrip("."))


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _place(loc: tuple[int | str, ...]) -> str:
    """pydantic's place as `unknown_keys` writes it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".") or "top level"


def _optional(annotation: Any) -> Any:
    """The annotation without `None` and without the plain dict that Ray Serve takes in a class's place."""
    if get_origin(annotation) in {Union, types.UnionType}:
        kept = [arg for arg in get_args(annotation) if arg is not type(None) and (get_origin(arg) or arg) is not dict]
        return kept[0] if kept else Any
    return annotation


def _model_of(annotation: Any) -> type[BaseModel] | None:
    inner = _optional(annotation)
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
