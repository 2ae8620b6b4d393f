"""SmolLM2 on Ray Serve as its documentation shows it, at zero until asked: `python -m loadtests.peers.cold_app FOLDER
PORT RAY_FOLDER IDLE_S`.

Autoscaled between no replica and one; `from_pretrained` in the constructor; answers streamed as they are generated. The
autoscaler looks as often as the fleet's does (`services.app`), which is oftener than Ray Serve's own defaults.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

from ray import serve
from starlette.requests import Request
from starlette.responses import StreamingResponse

from loadtests.peers.ray_app import run_until_terminated
from services.app import SCALING_INTERVAL_S, SCALING_WINDOW_S


def say(event: str) -> None:
    """A line of the form that the fleet's replicas log."""
    print(json.dumps({"event": event, "timestamp": datetime.now(UTC).isoformat()}), file=sys.stderr, flush=True)


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Completions:
    def __init__(self, folder: str) -> None:
        say("replica_starting")
        from loadtests.peers.batches import Prompt, StaticModel  # noqa: PLC0415 - torch, whose import is a phase

        say("family_imported")
        self._model, self._prompt = StaticModel(folder), Prompt
        say("model_ready")

    async def __call__(self, request: Request) -> StreamingResponse:
        job = await request.json()
        steps = self._model.stream([self._prompt(job["prompt"], job["max_tokens"])])
        return StreamingResponse((event for (event,) in steps), media_type="text/event-stream")


def scaling(idle_s: float) -> dict[str, float]:
    return {
        "min_replicas": 0,
        "max_replicas": 1,
        "metrics_interval_s": SCALING_INTERVAL_S,
        "look_back_period_s": SCALING_WINDOW_S,
        "upscale_delay_s": 0,
        "downscale_delay_s": idle_s,
        "downscale_to_zero_delay_s": idle_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of the model")
    parser.add_argument("port", type=int)
    parser.add_argument("ray_folder", help="Ray's files; a short path, for it holds unix sockets")
    parser.add_argument("idle_s", type=float, help="how long without a request before the replica stops, in seconds")
    arguments = parser.parse_args()
    application = Completions.options(autoscaling_config=scaling(arguments.idle_s)).bind(arguments.folder)
    run_until_terminated(application, port=arguments.port, ray_folder=arguments.ray_folder)


if __name__ == "__main__":
    main()
