"""The pages: how they are served, what they weigh, and what their files must never hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from services.families import FAMILIES
from services.gateway.auth import new_key
from services.gateway.routes_pages import FOLDER, SECURITY, load_pages
from shared.config.models import FleetConfig
from tests.unit.gateway.fakes import Gateway, make_gateway
from tests.unit.gateway.list_fakes import list_gateway

FILES = sorted(FOLDER.iterdir())
MODULES = [file for file in FILES if file.suffix == ".js"]
NAMES = [file.name for file in MODULES]
MOST_BYTES = 200_000
NAMESPACE = "http://www.w3.org/2000/svg"  # the name of a vocabulary: nothing is asked there
IMPORT = re.compile(r"""(?:from|import\(|import)\s*"([^"]+)\"""")
# What would let a model's text become markup or code, or need a policy that allows more.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|\beval\b"
    r"|new Function|\.style\b|[\"']style[\"']|style=|javascript:|localStorage|sessionStorage|document\.cookie"
)
SHORT = 128  # longer texts are content, which links must not share
NAMES_OF_THINGS = {"model", "voice"}


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/fleet", "text/html; charset=utf-8"),
        ("/pages/shell.js", "text/javascript; charset=utf-8"),
        ("/pages/style.css", "text/css; charset=utf-8"),
        ("/pages/icon.svg", "image/svg+xml"),
    ],
)
async def test_a_page_has_its_type_and_a_strict_policy(gateway: Gateway, path: str, media_type: str) -> None:
    async with gateway.client() as client:
        response = await client.get(path)
    assert (response.status_code, response.headers["content-type"]) == (200, media_type)
    assert response.headers["content-security-policy"] == SECURITY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"


def test_the_policy_allows_this_host_alone() -> None:
    assert SECURITY == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize("path", ["/", "/pages/shell.js", "/openapi.json"])
async def test_what_a_client_has_is_not_sent_again(gateway: Gateway, path: str) -> None:
    async with gateway.client() as client:
        first = await client.get(path, headers={"accept-encoding": "gzip"})
        again = await client.get(path, headers={"if-none-match": f'"other", {first.headers["etag"]}'})
        changed = await client.get(path, headers={"if-none-match": '"other"'})
        plain = await client.get(path, headers={"accept-encoding": "identity"})
        head = await client.head("/")
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (first.headers["content-encoding"], first.headers["vary"]) == ("gzip", "accept-encoding")
    assert "content-encoding" not in plain.headers
    assert changed.status_code == 200
    assert first.text == plain.text == changed.text
    assert (head.status_code, head.content) == (200, b"")


async def test_pages_are_read_alone(gateway: Gateway) -> None:
    async with gateway.client() as client:
        response = await client.post("/")
        missing = await client.get("/pages/none.js")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
    assert missing.status_code == 404


async def test_pages_need_no_key_and_what_they_ask_does(tmp_path: Path) -> None:
    _, line = new_key("alice")
    (tmp_path / "keys").write_text(line)
    locked = make_gateway(api_keys_file=tmp_path / "keys")
    async with locked.client() as client:
        assert {(await client.get(path)).status_code for path in load_pages()} == {200}
        asked = ("/v1/models", "/v1/fleet", "/v1/cards/x", "/v1/usage/tenants", "/pages", "/pages/../x")
        assert {(await client.get(path)).status_code for path in asked} == {401}


def test_all_files_together_are_small() -> None:
    assert sum(file.stat().st_size for file in FILES) < MOST_BYTES


def test_every_file_is_served() -> None:
    assert {f"/pages/{file.name}" for file in FILES} - set(load_pages()) == {"/pages/index.html"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_leads_to_another_host(file: Path) -> None:
    text = file.read_text().replace(NAMESPACE, "")
    assert not re.findall(r"(?:https?|wss?):(?://|\\/\\/)[\w.]+", text)
    assert not re.findall(r"""["'(=]//\w""", text)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.name)
def test_no_module_makes_markup_code_or_styles_of_text_or_keeps_anything(file: Path) -> None:
    assert not FORBIDDEN.findall(file.read_text())


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.name)
def test_every_module_says_what_it_is_for_and_imports_what_exists(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("// ")
    found = IMPORT.findall(text)
    assert {name.removeprefix("/pages/") for name in found} <= set(NAMES)
    assert all(name.startswith("/pages/") for name in found)


def test_every_module_is_reached_from_the_document() -> None:
    document = (FOLDER / "index.html").read_text()
    waiting = re.findall(r'src="/pages/([\w]+\.js)"', document)
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [path.removeprefix("/pages/") for path in IMPORT.findall((FOLDER / name).read_text())]
    assert reached == set(NAMES)


class _Document(HTMLParser):
    """Gathers what the policy would refuse: scripts and styles within the document, and handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []
        self.files: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.refused += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.refused.append(tag)
        self.files += [str(given[name]) for name in ("src", "href") if str(given.get(name, "")).startswith("/pages")]


def test_the_document_holds_no_script_and_no_style_and_names_files_that_exist() -> None:
    document = _Document()
    document.feed((FOLDER / "index.html").read_text())
    assert not document.refused
    assert set(document.files) <= set(load_pages())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_names_a_family(file: Path) -> None:
    assert not re.findall(rf"(?<![\w-])({'|'.join(FAMILIES)})(?![\w-])", file.read_text(), re.IGNORECASE)


def test_the_table_of_tasks_has_every_task_and_operations_that_exist() -> None:
    table = dict(re.findall(r'(\w+): \{\s+title: "[^"]+",\s+path: "([^"]+)"', (FOLDER / "tasks.js").read_text()))
    fleet = FleetConfig.model_validate(yaml.safe_load((Path(__file__).parents[3] / "models.yaml").read_text()))
    assert {task for service in fleet.services for model in service.models for task in model.does} <= set(table)
    paths = list_gateway().app.openapi()["paths"]
    assert {path for path in table.values() if "post" not in paths.get(path, {})} == set()


def test_a_link_shares_no_text_of_an_operation() -> None:
    listed = re.search(r"CONTENT = new Set\(\[(.*?)\]\)", (FOLDER / "link.js").read_text(), re.S)
    assert listed is not None
    content = set(re.findall(r'"(\w+)"', listed[1]))
    document = list_gateway().app.openapi()
    paths = re.findall(r'path: "([^"]+)"', (FOLDER / "tasks.js").read_text())
    texts: set[str] = set()
    for path in paths:
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        fields = document["components"]["schemas"][body.rpartition("/")[2]]["properties"]
        texts |= {name for name, field in fields.items() if _is_free_text(field)}
    assert texts - NAMES_OF_THINGS <= content
    assert "prompt" in texts


def _is_free_text(field: dict[str, object]) -> bool:
    kinds = field.get("anyOf", [field])
    assert isinstance(kinds, list)
    return any(
        kind.get("type") == "string"
        and not {"enum", "const", "pattern"} & kind.keys()
        and kind.get("maxLength", SHORT + 1) > SHORT
        for kind in kinds
    )
