"""Owns the commands of `castalia generate` that follow from the table of products: options in, files or text out."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from services.cli.client import Client
from services.cli.context import CliError, KeyOption, Tools, UrlOption, connect, tools
from services.cli.generate.answers import Answer
from services.cli.generate.file_types import FileType
from services.cli.generate.products import PRODUCTS, Product
from services.cli.generate.schema_options import options_of
from services.cli.model_choice import ModelOption, first_model
from services.cli.out_files import OUT, OutFiles, OverwriteOption, type_of
from services.cli.printing import print_piece, say_made
from services.cli.progress import Bar

NOT_ASKED = frozenset({"model", "stream", "user"})  # fields of all requests that are no options
DRAWN_SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Order:
    """A request for what is to be made, and where it goes: `files` None prints it."""

    product: Product
    file_type: FileType
    body: Mapping[str, Any]
    files: OutFiles | None

    def read(self, client: Client, bar: Bar) -> tuple[Answer, list[bytes]]:
        """What was made, and the contents of its files. Raises CliError."""
        product, count = self.product, self.body.get("n", 1)
        try:
            made = product.read(client, product.path, self.body, lambda done: bar.show(done, count))
            groups = [made.items] if self.file_type.together else [[item] for item in made.items]
            return made, [self.file_type.write(group) for group in groups]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CliError(f"the answer is not what a {product.task} is: {type(error).__name__}: {error}") from error


def _command(product: Product) -> Callable[..., None]:
    def command(
        ctx: typer.Context,
        *,
        model: ModelOption = None,
        out: Path | None = None,
        overwrite: OverwriteOption = False,
        url: UrlOption = None,
        api_key: KeyOption = None,
        **given: Any,
    ) -> None:
        out = out or product.out
        file_type = type_of(out, product.file_types) if out else next(iter(product.file_types.values()))
        body = _body(product, file_type, given)
        files = OutFiles(out, 1 if file_type.together else body.get("n", 1), overwrite=overwrite) if out else None
        client = connect(ctx, url, api_key)
        body["model"] = model or first_model(client, product.task)
        _carry_out(Order(product, file_type, body, files), client, tools(ctx))

    command.__doc__ = product.about
    command.__signature__ = _signature(command, product)  # pyright: ignore[reportFunctionMemberAccess] - typer reads it
    return command


def _signature(command: Callable[..., None], product: Product) -> Signature:
    """The command's own options, and those of the request's schema."""
    own = signature(command, eval_str=True).parameters
    printed = r" \[printed]" if product.out is None else " " + escape(f"[{product.out}]")
    words = f"Where to; its suffix says what: {', '.join(product.file_types)}.{printed}"
    out = own["out"].replace(annotation=Annotated[Path | None, typer.Option(*OUT, help=words)])
    parameters = [out if name == "out" else each for name, each in own.items() if name != "given"]
    if product.given:
        shown = Annotated[str, typer.Argument(metavar=product.given.metavar, help=product.given.help)]
        parameters.append(Parameter(product.given.field, Parameter.KEYWORD_ONLY, annotation=shown))
    return Signature([*parameters, *options_of(product.request, NOT_ASKED | product.decided)])


def _body(product: Product, file_type: FileType, given: Mapping[str, Any]) -> dict[str, Any]:
    """The request but for its model. A seed that is not given is drawn here, so that it can be told."""
    body = {name: value for name, value in given.items() if value not in (None, [])}
    if product.given:
        body[product.given.field] = product.given.read(body[product.given.field])
    return {"seed": secrets.randbelow(DRAWN_SEEDS), **file_type.asks, **body}


def _carry_out(order: Order, client: Client, collaborators: Tools) -> None:
    """Print what was made, and say on standard error what it is; or write the files, and say of each what it is."""
    began = time.monotonic()
    with Bar(collaborators.err, order.product.task, "done") as bar:
        made, contents = order.read(client, bar)
    model, seed, seconds = made.model or order.body["model"], order.body["seed"], time.monotonic() - began
    if order.files is None:
        whole = "\n".join(content.decode().rstrip("\n") for content in contents)
        print_piece(collaborators.out, whole + "\n")
        say_made(collaborators.err, order.product.task, model, seed, seconds)
        return
    for index, content in enumerate(contents):
        own = seed if len(contents) == 1 else made.items[index]["seed"]
        say_made(collaborators.out, str(order.files.write(index, content)), model, own, seconds)


products = typer.Typer()
for _product in PRODUCTS:
    products.command(_product.task, epilog=f"[bold]Examples:[/]\n\n{_product.examples}")(_command(_product))
