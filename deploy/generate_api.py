"""Writes docs/api.md from the gateway's own OpenAPI document: `python -m deploy.generate_api [--check]`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from deploy.generated import main
from deploy.schema_tables import Json, fields_table, link, name_of, table, type_of
from services.gateway.logs import make_log
from services.gateway.state import GatewayState
from services.gateway.upstreams import UpstreamDispatcher
from services.gateway.web import build_app
from shared.config.settings import Settings

API = Path(__file__).parents[1] / "docs" / "api.md"
HEAD = """# The API

Made from the gateway's `/openapi.json` by `.venv/bin/python -m deploy.generate_api`. A running gateway shows the same
at `/docs`, and lets you try it there.

{description}

Where keys are asked for, an operation takes one as `Authorization: Bearer KEY`, unless it says otherwise. A field that
is not required and has no default may be left out; in JSON it may also be null."""


def openapi_document() -> Json:
    """That of a gateway without a fleet, whatever the environment says: paths and schemas depend on neither."""
    log = make_log("ERROR")
    settings = Settings.model_construct(database_url=SecretStr("sqlite://"))
    return build_app(GatewayState.make(settings, UpstreamDispatcher(log), log)).openapi()


def api_text(document: Json) -> str:
    """Every schema once: of a body beside its operation, any other at the end. What names one leads there."""
    schemas: Json = document["components"]["schemas"]
    paths = document["paths"].items()
    operations = {f"{method.upper()} {path}": each for path, methods in paths for method, each in methods.items()}
    index = ((link(name), each["summary"]) for name, each in operations.items())
    parts = [HEAD.format(description=document["info"]["description"]), table(("operation", "what it does"), index)]
    for tag in dict.fromkeys(each["tags"][0] for each in operations.values()):
        parts.append(f"## Paths of {tag}")  # some schema is called as the tag is
        for name, each in operations.items():
            parts += _operation(name, each, schemas) if each["tags"][0] == tag else ()
    refusals = {status: each for operation in operations.values() for status, each in _refusals(operation).items()}
    codes = ((status, each["description"]) for status, each in sorted(refusals.items()))
    parts += ["## Errors", "The body of each is an `ErrorBody`.", table(("status", "`code`"), codes), "## Schemas"]
    bodies = {name_of(body) for each in operations.values() for body in _contents(each.get("requestBody", {})).values()}
    for name in sorted(schemas.keys() - bodies):
        parts += _schema(f"### {name}", schemas[name])
    named = re.compile(f"`({'|'.join(schemas)})`")
    return named.sub(lambda found: link(found[1]), "\n\n".join(filter(None, parts))) + "\n"


def _operation(name: str, operation: Json, schemas: Json) -> Iterator[str]:
    yield f"### {name}"
    yield operation["summary"] + ("" if operation["summary"].endswith("?") else ".")
    yield operation.get("description", "")
    answers = operation["responses"]
    if "401" not in answers:
        yield "No key is asked for."
    elif name.startswith("GET ") and "403" in answers:  # nothing else is refused to a key that only reads
        yield "Where keys are asked for, it takes an operator's."
    given = operation.get("parameters", ())
    fields = {each["name"]: {**each["schema"], "description": each.get("description", "")} for each in given}
    yield fields_table({"properties": fields, "required": [each["name"] for each in given if each["required"]]})
    yield from _body(_contents(operation.get("requestBody", {})), schemas)
    kinds: dict[str, list[str]] = {}
    for kind, schema in _contents(answers["200"]).items():
        kinds.setdefault(type_of(schema) or schema["description"], []).append(f"`{kind}`")
    yield "\n".join(f"- 200, {', '.join(named)}: {what}" for what, named in kinds.items())
    yield f"{link('Errors')}: {', '.join(_refusals(operation))}."


def _body(contents: Json, schemas: Json) -> Iterator[str]:
    """The first type's fields as a table; of another type, which has the same, those that are of another kind."""
    first: Json = {}
    for kind, reference in contents.items():
        name = name_of(reference)
        schema = schemas[name] if name else reference
        if first:
            unlike = {field: given for field, given in schema["properties"].items() if given != first[field]}
            words = " and ".join(f"`{field}` is a {type_of(given)}" for field, given in unlike.items())
            yield f"As `{kind}` the fields are the same, but {words}."
        else:
            first = schema["properties"]
            yield from _schema(f"#### {name}" if name else "", schema, f"The body, as `{kind}`.")


def _schema(heading: str, schema: Json, about: str = "") -> Iterator[str]:
    yield heading
    yield f"{about} {schema.get('description', '')}".strip()
    yield fields_table(schema)


def _contents(of: Json) -> Json:
    """The schema of each media type of a body or an answer."""
    return {kind: content["schema"] for kind, content in of.get("content", {}).items()}


def _refusals(operation: Json) -> Json:
    return {status: answer for status, answer in operation["responses"].items() if status >= "400"}


if __name__ == "__main__":
    sys.exit(main("deploy.generate_api", __doc__, lambda: {API: api_text(openapi_document())}))
