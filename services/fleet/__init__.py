"""A local fleet: Ray on this machine, the gateway and every service of a models.yaml, in a process of its own.

    state = up(Path("models.yaml"), name="default", settings=Settings(), on_progress=print)
    ...
    down("default", settings.home)

Importing this does not import Ray.
"""

from services.fleet.launch import down, reload, serve, up
from services.fleet.state import FleetError, FleetState, applied_config, list_states, read_state

__all__ = [
    "FleetError",
    "FleetState",
    "applied_config",
    "down",
    "list_states",
    "read_state",
    "reload",
    "serve",
    "up",
]
