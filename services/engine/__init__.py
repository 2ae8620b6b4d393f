"""Iteration-level batching for every family (Orca, OSDI '22). Standard library only: never a tensor, never Ray."""
