"""Owns the process settings: environment variables named CASTALIA_*."""

from __future__ import annotations

from pathlib import Path

from pydantic import ByteSize, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CASTALIA_", frozen=True)

    home: Path = Field(
        default=Path.home() / ".castalia", description="caches, converted weights, fleets' state and logs"
    )
    host: str = Field(default="127.0.0.1", description="address that the gateway listens on")
    port: int = Field(default=8000, ge=0, le=65535, description="port that the gateway listens on; 0 picks a free one")
    api_keys_file: Path | None = Field(
        default=None, description="hashed API keys, one a line; required unless the host is loopback"
    )
    max_body: ByteSize = Field(default=ByteSize(4 * 2**20), description="the largest request body")
    max_image_body: ByteSize = Field(
        default=ByteSize(16 * 2**20), description="the largest request body of operations that take an image"
    )
    flush_ms: float = Field(default=40, ge=0, description="how long a stream's events gather before they are sent")
    ping_s: float = Field(default=15, gt=0, description="a comment keeps an idle stream alive after this long")
    hold_s: float = Field(default=60, gt=0, description="how long a request for a model that is not loaded is held")
    timeout_s: float = Field(default=600, gt=0, description="the longest a request may take")
    report_s: float = Field(
        default=0.5, gt=0, le=1, description="how old a replica's report may be before it is asked for again"
    )
    haproxy: bool = Field(default=True, description="Ray Serve's HAProxy ingress (else its Python proxy)")
    throughput_optimized: bool = Field(default=True, description="Ray Serve's throughput mode")
    grpc: bool = Field(default=True, description="gRPC between gateway and replicas (else Ray's object store)")
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="the least that is logged"
    )
