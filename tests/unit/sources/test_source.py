from pathlib import Path, PurePosixPath

import pytest

from services.sources.errors import InvalidSource
from services.sources.source import Builtin, Folder, HubRepo, PackageMember, parse_source
from shared.config.models import FleetConfig


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("builtin://emoji-diffusion", Builtin("emoji-diffusion")),
        ("hf://openai-community/gpt2@v1.0", HubRepo("openai-community/gpt2", "v1.0")),
        ("pypi://a-b==1.2.post3/x/y.gguf", PackageMember("a-b", "1.2.post3", PurePosixPath("x/y.gguf"))),
        ("file:///srv/model", Folder(Path("/srv/model"))),
        ("file://relative/model", Folder(Path("relative/model"))),
    ],
)
def test_every_scheme_is_read(text: str, source: object) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpt2", "builtin://"),
        ("ftp://x/y", "builtin://"),
        ("builtin://../../etc", "builtin://name"),
        ("hf://owner/repo", "@revision"),
        ("hf://repo@v1", "owner/repo"),
        ("pypi://pkg/path", "==version"),
        ("pypi://pkg==1.0", "path"),
        ("pypi://pkg==1.*/path", "==version"),
        ("pypi://--index-url==1/path", "package"),
        ("pypi://pkg==1.0/../../etc/passwd", "inside/the/wheel"),
        ("pypi://pkg==1.0//etc/passwd", "inside"),
        ("file://", "folder"),
    ],
)
def test_what_is_no_source_is_refused_with_the_form_it_should_have(text: str, expected: str) -> None:
    with pytest.raises(InvalidSource) as caught:
        parse_source(text)
    assert text in str(caught.value)
    assert expected in str(caught.value)


def test_the_sources_of_the_shipped_models_yaml_parse() -> None:
    yaml = pytest.importorskip("yaml")
    fleet = FleetConfig.model_validate(yaml.safe_load(Path("models.yaml").read_text()))
    assert [parse_source(model.source) for service in fleet.services for model in service.models]
