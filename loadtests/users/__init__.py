"""Locust user classes, one module a modality."""
