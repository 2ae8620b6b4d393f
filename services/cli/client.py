"""Owns the client's side of the wire: requests, streams, and every failure as one clear sentence."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import httpx

from services.cli.context import CliError
from services.cli.sse import read_events, read_lines

CONNECT_S, READ_S = 5.0, 600.0  # a cold model is waited for within the gateway's own limit
CUT = "the answer was cut off: the connection closed before the stream's end"


@dataclass(frozen=True, slots=True)
class ServedModel:
    id: str
    family: str
    tasks: tuple[str, ...]
    state: str
    license: str
    context: int | None  # tokens
    base: str | None = None  # of an adapter: the model that it changes


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that follows the text before it."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The answer is whole. `reason` is "stop", "length" or "tool_calls"; `calls` are those of tools."""

    reason: str | None
    prompt_tokens: int
    completion_tokens: int
    calls: int = 0


class Client:
    """One gateway. Every method raises CliError, whose message names the cause."""

    def __init__(self, url: str, api_key: str | None, *, read_s: float = READ_S) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise CliError(f"{url!r} is not a URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise CliError(f"{url!r} is not the URL of a gateway: expected http://host:port")
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise CliError("the API key holds characters that no key has; check --api-key or CASTALIA_API_KEY")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(read_s, connect=min(CONNECT_S, read_s)),
            trust_env=not _is_loopback(parsed.host),  # a proxy from the environment cannot reach this machine
        )

    def close(self) -> None:
        self._http.close()

    def models(self) -> list[ServedModel]:
        with self._failures():
            response = self._http.get("/v1/models")
        _check(response)
        try:
            return [_model(entry) for entry in response.json()["data"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CliError(f"{response.url} did not answer with a list of models; is it a Castalia gateway?") from error

    def is_ready(self) -> bool:
        """Whether the gateway answers and every service behind it does. Never raises."""
        try:
            answer = self._http.get("/readyz", timeout=CONNECT_S)
            return answer.status_code == HTTPStatus.OK and not answer.json()["silent"]
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def chat(self, body: Mapping[str, object]) -> Generator[Delta | End]:
        """Stream POST /v1/chat/completions. The last item is an End; a stream that breaks off raises.

        Closing the generator closes the connection, which ends the request at the gateway.
        """
        return self._answer("/v1/chat/completions", body)

    def complete(self, body: Mapping[str, object]) -> Generator[Delta | End]:
        """Stream POST /v1/completions, as `chat`."""
        return self._answer("/v1/completions", body)

    def upload(self, path: Path, purpose: str) -> dict[str, Any]:
        """POST /v1/files, piece by piece; gives the file's object."""
        try:
            with path.open("rb") as file, self._failures():
                response = self._http.post("/v1/files", data={"purpose": purpose}, files={"file": (path.name, file)})
        except OSError as error:
            raise CliError(f"cannot read {path}: {error.strerror}") from error
        return _object(response)

    def download(self, file_id: str, path: Path) -> None:
        """GET the content of a file, piece by piece. Nothing is left at `path` if it breaks off."""
        half = path.with_name(f"{path.name}.part")
        with self._failures(), self._http.stream("GET", f"/v1/files/{file_id}/content") as response:
            if response.status_code != HTTPStatus.OK:
                response.read()
            _check(response)
            try:
                with half.open("wb") as file:
                    for piece in response.iter_bytes():
                        file.write(piece)
                half.replace(path)
            except OSError as error:
                raise CliError(f"cannot write {path}: {error.strerror}") from error
            finally:
                half.unlink(missing_ok=True)

    def stream(self, path: str, body: Mapping[str, object]) -> Generator[bytes]:
        """POST, and the answer's bytes as they come. Raises CliError if the connection breaks."""
        with self._failures(), self._http.stream("POST", path, json=body) as response:
            if response.status_code != HTTPStatus.OK:
                response.read()
            _check(response)
            yield from response.iter_bytes()

    def events(self, path: str, body: Mapping[str, object]) -> Generator[dict[str, Any]]:
        """POST, and the stream's JSON events up to [DONE]. A stream that ends without it was cut."""
        with closing(self.stream(path, body)) as pieces:
            for data in read_events(pieces):
                if data == "[DONE]":
                    return
                yield _whole(data)
        raise CliError(CUT)

    def lines(self, path: str, body: Mapping[str, object]) -> Generator[dict[str, Any]]:
        """POST, and the list's lines of JSON up to the one that ends it, which is the last. Without it, it was cut."""
        with closing(self.stream(path, {**body, "stream": True})) as pieces:
            for line in read_lines(pieces):
                found = _whole(line.decode("utf-8", "replace"))
                yield found
                if found.get("object") == "list.end":
                    return
        raise CliError(CUT)

    def text(self, path: str) -> str:
        """GET a text."""
        with self._failures():
            response = self._http.get(path)
        _check(response)
        return response.text

    def get(self, path: str) -> dict[str, Any]:
        """GET a JSON object."""
        with self._failures():
            response = self._http.get(path)
        return _object(response)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """POST a JSON object; gives the one that is answered."""
        with self._failures():
            response = self._http.post(path, json=body)
        return _object(response)

    def _answer(self, path: str, body: Mapping[str, object]) -> Generator[Delta | End]:
        reason: str | None = None
        usage: Mapping[str, int] = {}
        reading = _Reading()
        for event in self.events(path, {**body, "stream": True, "stream_options": {"include_usage": True}}):
            usage = event.get("usage") or usage
            for choice in event.get("choices") or ():
                reason = choice.get("finish_reason") or reason
                if text := reading.text(choice):
                    yield Delta(text)
        yield End(reason, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), len(reading.calls))

    @contextmanager
    def _failures(self) -> Generator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise CliError(
                f"no gateway answers at {self.url}; start one with `castalia up`, or name another with --url or"
                " CASTALIA_URL"
            ) from error
        except httpx.TimeoutException as error:
            raise CliError(f"{self.url} did not answer in time ({type(error).__name__})") from error
        except httpx.RemoteProtocolError as error:
            raise CliError(f"the answer was cut off: {error}") from error
        except httpx.HTTPError as error:
            raise CliError(f"{self.url}: {error}") from error


@dataclass(slots=True)
class _Reading:
    """How far an answer was read: whether it has begun, and the indices of its calls of tools."""

    begun: bool = False
    calls: list[object] = field(default_factory=list[object])

    def text(self, choice: Mapping[str, Any]) -> str:
        """A piece, to be read. A call is a line: the tool's name, a space, the arguments as the model wrote them."""
        delta = choice.get("delta") or {}
        text = delta.get("content") or choice.get("text") or ""
        for piece in delta.get("tool_calls") or ():
            function = piece.get("function") or {}
            if piece.get("index") not in self.calls:
                self.calls.append(piece.get("index"))
                text += ("\n" if self.begun or text else "") + f"{function.get('name')} "
            text += function.get("arguments") or ""
        self.begun = self.begun or bool(text)
        return text


def _check(response: httpx.Response) -> None:
    """Raise what the four-key error body says, or the status where there is none."""
    if response.status_code == HTTPStatus.OK:
        return
    try:
        message = _message(response.json()["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        message = f"{response.reason_phrase or 'no reason given'} (not an answer of a Castalia gateway)"
    request_id = response.headers.get("x-request-id")
    raise CliError(f"{response.status_code} {message}" + (f" [x-request-id: {request_id}]" if request_id else ""))


def _object(response: httpx.Response) -> dict[str, Any]:
    _check(response)
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CliError(f"{response.url} did not answer with a JSON object; is it a Castalia gateway?")
    return cast(dict[str, Any], found)


def _message(error: Any) -> str:
    code = error.get("code") or error.get("type")
    hint = "; set --api-key or CASTALIA_API_KEY" if code == "invalid_api_key" else ""
    return f"{code}: {error.get('message')}{hint}"


def _whole(data: str) -> dict[str, Any]:
    """A piece of a stream. Raises CliError for an error in its place, and for what is no JSON object."""
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CliError(f"the stream holds what is not JSON: {data[:80]!r}")
    if error := found.get("error"):
        raise CliError(f"the answer broke off: {_message(error)}")
    return cast(dict[str, Any], found)


def _model(entry: Mapping[str, Any]) -> ServedModel:
    context = (entry.get("limits") or {}).get("context_length")
    return ServedModel(
        id=entry["id"],
        family=entry.get("family", "unknown"),
        tasks=tuple(entry.get("tasks", ())),
        state=entry.get("state", "unknown"),
        license=entry.get("license", "unknown"),
        context=int(context) if context else None,
        base=entry.get("base"),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
