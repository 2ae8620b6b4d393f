"""Owns the process settings: environment variables named CASTALIA_*."""

from __future__ import annotations

from pathlib import Path

from pydantic import ByteSize, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CASTALIA_", frozen=True)

    home: Path = Field(
        default=Path.home() / ".castalia", description="caches, converted weights, fleets' state and logs"
    )
    host: str = Field(default="127.0.0.1", description="address that the gateway listens on")
    port: int = Field(default=8000, ge=0, le=65535, description="port that the gateway listens on; 0 picks a free one")
    api_keys_file: Path | None = Field(
        default=None, description="hashed API keys, one a line; without it, keys are those of the store"
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="the store of keys, usage, files and batches; without it, SQLite in `CASTALIA_HOME/castalia.db`",
    )
    usage_flush_s: float = Field(
        default=2, gt=0, le=60, description="how often usage is written to the store: what a crash may lose"
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="a Redis by which all gateways share their tenants' limits; without it, each keeps its own",
    )
    gateway_replicas: int = Field(default=1, ge=1, description="how many gateways answer")
    gateway_spread: bool = Field(
        default=False, description="each gateway on a node of its own; they are replaced one after another then"
    )
    max_body: ByteSize = Field(default=ByteSize(4 * 2**20), description="the largest request body")
    max_image_body: ByteSize = Field(
        default=ByteSize(16 * 2**20), description="the largest request body of operations that take an image"
    )
    header_timeout_s: float = Field(
        default=10, gt=0, description="how long a request's headers may take to arrive (HAProxy watches over it)"
    )
    body_timeout_s: float = Field(
        default=30, gt=0, description="how long a request's body may take to arrive, and a second more for each 64 KiB"
    )
    max_file: ByteSize = Field(default=ByteSize(200 * 2**20), description="the largest uploaded file")
    max_tenant_files: ByteSize = Field(
        default=ByteSize(5 * 2**30), description="the bytes of all files of a tenant, above which it uploads no more"
    )
    blob_url: str | None = Field(
        default=None,
        description="where files' bytes are kept: a folder, or a URL that fsspec takes, such as `s3://bucket/prefix`; "
        "without it, `CASTALIA_HOME/blobs`",
    )
    batch_concurrency: int = Field(default=8, ge=1, description="lines of batches that one gateway runs at once")
    batch_lease_s: float = Field(
        default=15, ge=1, description="how long a gateway may be silent before another takes its batches over"
    )
    flush_ms: float = Field(
        default=40, ge=0, description="how long a stream's events gather before they are sent; longer where many run"
    )
    ping_s: float = Field(default=15, gt=0, description="a comment keeps an idle stream alive after this long")
    hold_s: float = Field(default=60, gt=0, description="how long a request for a model that is not loaded is held")
    timeout_s: float = Field(default=600, gt=0, description="the longest a request may take")
    report_s: float = Field(
        default=0.5, gt=0, le=1, description="how old a replica's report may be before it is asked for again"
    )
    haproxy: bool = Field(default=True, description="Ray Serve's HAProxy ingress (else its Python proxy)")
    throughput_optimized: bool = Field(default=True, description="Ray Serve's throughput mode")
    grpc: bool = Field(default=True, description="gRPC between gateway and replicas (else Ray's object store)")
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+",
        description="a collector that takes traces by OTLP over HTTP, such as `http://collector:4318`; without it, "
        "nothing is traced",
    )
    trace_ratio: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="the share of requests that are traced, of those whose `traceparent` does not say whether they are",
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="the least that is logged"
    )

    @model_validator(mode="after")
    def _replaceable(self) -> Settings:
        if self.gateway_spread and self.gateway_replicas < 2:
            raise ValueError("gateway_spread needs gateway_replicas of 2 or more, for one is gone while it is replaced")
        return self
