"""Torch code that two or more families share."""
