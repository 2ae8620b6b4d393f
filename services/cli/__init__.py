"""The command line, `castalia`: a local fleet, a client of any fleet, and the upkeep of weights and keys.

Owns what a person sees in a terminal. Never imports torch or Ray: `castalia --help` answers at once.
"""

from services.cli.app import app, main

__all__ = ["app", "main"]
