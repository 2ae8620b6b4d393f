"""Requests and responses on the wire, one module a modality."""
