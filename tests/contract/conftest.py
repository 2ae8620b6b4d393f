"""Every family passes the suite on one thread."""

from tests.one_thread import one_thread

__all__ = ["one_thread"]  # a fixture is in force where it can be seen
