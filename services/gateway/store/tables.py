"""Owns the tables. `migrations` holds how they came to be; a test compares both. Times are seconds since the epoch."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# What every change of tenants or keys counts up, so that gateways read them again.
revisions = Table(
    "revisions",
    metadata,
    Column("subject", String(32), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("weight", Double, nullable=False),
    Column("ceiling", String(16), nullable=False),  # a Priority's name in lower case
    Column("models", JSON(none_as_null=True)),  # a list of names; null is all
    Column("requests_per_minute", Integer),
    Column("units_per_minute", BigInteger),
    Column("concurrency", Integer),
    Column("units_per_month", BigInteger),
    Column("longest_s", Double),
    Column("is_operator", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),  # public: lists and logs show it
    Column("tenant", String(64), ForeignKey("tenants.name"), nullable=False, index=True),
    Column("sha256", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),  # null: never; a revoked key expired when it was revoked
)

usage = Table(
    "usage",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("day", String(10), primary_key=True),  # in UTC, as 2026-01-31
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("units", Double, nullable=False),
    Index("ix_usage_day", "day"),
)

files = Table(
    "files",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("filename", String(256), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Index("ix_files_tenant_created_at", "tenant", "created_at"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("input_file_id", String(40), nullable=False),
    Column("output_file_id", String(40)),
    Column("error_file_id", String(40)),
    Column("completion_window", String(16), nullable=False),
    Column("status", String(16), nullable=False),  # OpenAI's
    Column("metadata", JSON(none_as_null=True)),
    Column("errors", JSON(none_as_null=True)),
    Column("output_expires_s", Integer),  # after its output and error files were made
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),  # of the lines that have a result, those that succeeded
    Column("failed", Integer, nullable=False),  # and those that did not
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("in_progress_at", Double),
    Column("finalizing_at", Double),
    Column("completed_at", Double),
    Column("failed_at", Double),
    Column("expired_at", Double),
    Column("cancelling_at", Double),
    Column("cancelled_at", Double),
    Column("expires_at", Double, nullable=False),
    Column("lease_owner", String(64)),  # the gateway that works on it
    Column("lease_until", Double),
    Index("ix_batches_tenant_created_at", "tenant", "created_at"),
    Index("ix_batches_status", "status"),
)

# A line that has its one result; lines that have none are still to be run. Rows go when their batch has its files.
batch_results = Table(
    "batch_results",
    metadata,
    Column("batch", String(40), ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("status", Integer, nullable=False),  # of the HTTP response
    Column("result", Text, nullable=False),  # the line of the output or error file
)
