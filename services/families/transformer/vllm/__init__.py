"""Decoders that vLLM runs, in processes of its own beside the replica (ADR 15)."""
