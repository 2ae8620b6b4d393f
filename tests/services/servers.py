"""Owns starting a real Redis and a real PostgreSQL on free ports of 127.0.0.1, and ending them by their process.

Each keeps its files in a temporary folder that goes with it. PostgreSQL refuses to run as root, so root
starts it as the user `postgres`, or `nobody` where there is none.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
import redis

START_S = 30.0
END_S = 10.0
POLL_S = 0.05
ROLE = "castalia"
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")  # <version>/bin: Debian keeps the servers' programs off the PATH


@dataclass(frozen=True, slots=True)
class RedisServer:
    port: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """`programs` is the folder of createdb and dropdb."""

    port: int
    password: str
    programs: Path

    def url(self, database: str) -> str:
        """As SQLAlchemy takes it, for asyncpg."""
        return f"postgresql+asyncpg://{ROLE}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> None:
        self._run("createdb", database)

    def drop(self, database: str) -> None:
        """Whoever is still connected to it is put out."""
        self._run("dropdb", "--force", database)

    def _run(self, program: str, *arguments: str) -> None:
        where = ["--host=127.0.0.1", f"--port={self.port}", f"--username={ROLE}"]
        environment = {**os.environ, "PGPASSWORD": self.password}
        subprocess.run([self.programs / program, *where, *arguments], env=environment, check=True, timeout=START_S)


@contextmanager
def redis_server(host: str = "127.0.0.1") -> Iterator[RedisServer]:
    """Without files: what it holds ends with it. Without a password: no `host` that others reach."""
    program = shutil.which("redis-server")
    if program is None:
        _missing("redis-server", package="redis-server")
    server = RedisServer(_free_port(), host)
    with _folder(user=None) as folder:
        options = {"port": server.port, "bind": host, "save": "", "appendonly": "no", "dir": folder}
        options["protected-mode"] = "no"
        command = [program, *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        with _running(command, folder, user=None, is_ready=lambda: _redis_answers(server)):
            yield server


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """One cluster with one superuser, who needs a password. It may lose data on a power cut, and is fast for it."""
    programs = _postgres_programs()
    user = _unprivileged_user()
    server = PostgresServer(_free_port(), secrets.token_hex(16), programs)
    with _folder(user) as folder:
        data = folder / "data"
        password = folder / "password"
        password.write_text(server.password)
        password.chmod(0o644)  # the folder is for its owner alone
        create = ["--auth=scram-sha-256", f"--pwfile={password}", f"--username={ROLE}", "--encoding=UTF8", "--no-sync"]
        create = [str(programs / "initdb"), f"--pgdata={data}", "--locale=C", *create]
        subprocess.run(create, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=START_S)
        options = {"port": server.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        ready = [programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={server.port}"]
        with _running(command, folder, user=user, is_ready=lambda: subprocess.run(ready, check=False).returncode == 0):
            yield server


@contextmanager
def _running(command: list[str], folder: Path, *, user: str | None, is_ready: Callable[[], bool]) -> Iterator[None]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, user=user, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        _until(is_ready, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() >= deadline:
            pytest.fail(f"{process.args} did not start:\n{log.read_text()[-4000:]}")
        time.sleep(POLL_S)


def _redis_answers(server: RedisServer) -> bool:
    with redis.Redis.from_url(server.url) as client:
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False


@contextmanager
def _folder(user: str | None) -> Iterator[Path]:
    """Of mode 0700, directly below the temporary folder: another user could not reach one in pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="castalia-services-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder)


def _postgres_programs() -> Path:
    versions = sorted(DEBIAN_POSTGRES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    program = shutil.which("postgres")
    if program is None:
        _missing("postgres", package="postgresql")
    return Path(program).resolve().parent


def _unprivileged_user() -> str | None:
    """Whom to be instead of root; None for whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _missing(program: str, *, package: str) -> NoReturn:
    pytest.fail(
        f"{program} is not installed; Debian and Ubuntu have it in the package `{package}`: tests/services/install"
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
