"""Models of other servers, reached by HTTP at the gateway's `Dispatcher` seam."""

from services.gateway.upstreams.dispatch import UpstreamDispatcher

__all__ = ["UpstreamDispatcher"]
