"""Owns the commands of a fleet on Kubernetes: what Ray Serve is told there, whether it is sound, what would change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.context import CliError, settings, tools

KUBECTL_TIMEOUT_S = 60
RAY_SERVICES = "rayservices.ray.io"

ModelsOption = Annotated[Path, typer.Option("--models", help="Which services and models it is about.")]

deploy = typer.Typer(
    help=(
        "Look at what a fleet on Kubernetes is told: Ray Serve's configuration, as the chart's RayService holds it.\n\n"
        "Process settings are those of CASTALIA_*, as in the values' [bold]settings[/]."
    ),
    no_args_is_help=True,
)


@deploy.command(
    epilog="[bold]Examples:[/]\n\ncastalia deploy render\n\ncastalia deploy render --models my.yaml --output serve.yaml"
)
def render(
    ctx: typer.Context,
    models: ModelsOption = Path("models.yaml"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here. Without it: to the terminal.")
    ] = None,
) -> None:
    """Write models.yaml as Ray Serve's configuration: what `serveConfigV2` holds, or `serve deploy` takes."""
    text = _yaml(_rendered(models))
    if output is None:
        tools(ctx).out.file.write(text)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise CliError(f"cannot write {output}: {error.strerror}") from error


@deploy.command(
    epilog=(
        "[bold]Examples:[/]\n\ncastalia deploy check\n\ncastalia deploy check serve.yaml\n\n"
        "helm template deploy/chart/castalia --values my-values.yaml | castalia deploy check -"
    )
)
def check(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Ray Serve's configuration, or manifests with a RayService; - reads standard input."
            " Without it: what models.yaml gives."
        ),
    ] = None,
    models: ModelsOption = Path("models.yaml"),
) -> None:
    """Name every key that Ray Serve does not know, at any depth: it drops those in silence. Exit status 1 if any."""
    from services.cli.printing import plain
    from services.serve_schema import faults

    config = _rendered(models) if file is None else _read(file)
    found = faults(config)
    for fault in found:
        tools(ctx).out.print(plain(fault), soft_wrap=True)
    if found:
        raise typer.Exit(1)
    tools(ctx).out.print(
        f"Ray Serve knows all of it: {len(config.get('applications', []))} applications", highlight=False
    )


@deploy.command(
    epilog=(
        "[bold]Examples:[/]\n\ncastalia deploy diff --release castalia --namespace models\n\n"
        "castalia deploy diff --file serve.yaml"
    )
)
def diff(
    ctx: typer.Context,
    models: ModelsOption = Path("models.yaml"),
    file: Annotated[
        Path | None, typer.Option("--file", help="Compare with this: a configuration, or manifests with a RayService.")
    ] = None,
    release: Annotated[
        str, typer.Option(help="Compare with the RayService of this Helm release, by kubectl.")
    ] = "castalia",
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Its namespace. [kubectl's own]")] = None,
) -> None:
    """Show, service by service, what deploying models.yaml would change. Exit status 1 if it would change anything."""
    from services.cli.printing import plain
    from services.cli.serve_diff import serve_differences

    out = tools(ctx).out
    wanted = _rendered(models)
    deployed = _deployed(release, namespace) if file is None else _read(file)
    styles = {"added": "green", "removed": "red", "changed": "yellow"}
    found = serve_differences(deployed, wanted)
    for each in found:
        out.print(plain(f"{each.what:<8} {each.kind} {each.name}", styles[each.what]), soft_wrap=True)
        for line in each.lines:
            out.print(plain(f"           {line}"), soft_wrap=True)
    if found:
        raise typer.Exit(1)
    out.print("nothing would change", highlight=False)


def _rendered(models: Path) -> dict[str, Any]:
    """What a fleet on Kubernetes is told: as a local one, but for where it listens. Raises CliError."""
    from services.app import serve_config
    from services.cli.fetching import load_models

    return serve_config(load_models(models), settings(host="0.0.0.0", port=8000))  # noqa: S104 - in a pod


def _yaml(config: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _read(file: Path) -> dict[str, Any]:
    """Raises CliError."""
    from services.serve_schema import NoServeConfig, read_serve_config

    try:
        return read_serve_config(sys.stdin.read() if str(file) == "-" else file.read_text())
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror}") from error
    except (NoServeConfig, UnicodeDecodeError) as error:
        raise CliError(f"{file}: {error}") from error


def _deployed(release: str, namespace: str | None) -> dict[str, Any]:
    """What the release's RayService says now. Raises CliError."""
    from services.serve_schema import NoServeConfig, config_of

    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise CliError("kubectl is not on PATH; compare with a file instead: --file")
    where = [] if namespace is None else ["--namespace", namespace]
    command = [
        kubectl,
        "get",
        RAY_SERVICES,
        *where,
        "--selector",
        f"app.kubernetes.io/instance={release}",
        "--output=json",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=KUBECTL_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise CliError(f"kubectl did not answer within {KUBECTL_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise CliError(f"kubectl: {done.stderr.strip() or f'exit status {done.returncode}'}")
    items = json.loads(done.stdout).get("items", [])
    if len(items) != 1:
        place = "in kubectl's namespace" if namespace is None else f"in namespace {namespace!r}"
        raise CliError(
            f"release {release!r} has {len(items)} RayServices {place}; name another with --release, --namespace"
        )
    try:
        return config_of(items[0])
    except NoServeConfig as error:
        raise CliError(f"release {release!r}: {error}") from error
