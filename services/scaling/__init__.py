"""Owns how many replicas a service should have. Standard library only: never sees Ray, HTTP or a tensor."""
