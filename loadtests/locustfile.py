"""`locust -f loadtests/locustfile.py --host http://127.0.0.1:8000`: load a fleet as its users do. See README.md."""

from __future__ import annotations

from locust import events
from locust.argument_parser import LocustArgumentParser

from loadtests.users.chat import ChatUser

__all__ = ["ChatUser"]


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--model", env_var="CASTALIA_MODEL", default="", help="default: the first that can chat")
    parser.add_argument("--max-tokens", type=int, default=64, help="the longest answer asked for")
    parser.add_argument("--seed", type=int, default=None, help="of the choice of questions; default: unlike each time")
