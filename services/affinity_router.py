"""Owns which replica of a service a call goes to: Ray Serve's request router of every service. Never sees HTTP.

Ray pickles this module by value and runs it in the gateway's process, so it imports what it needs and no more.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from shared.calls import Call

# A replica keeps what belongs to it until its queue is twice the shortest and this many requests longer.
SLACK = 8


class AffinityRouter(RequestRouter):
    """Calls with the same `affinity` meet the same replica, while it is not much busier than the others.

    Replicas are ranked by rendezvous hashing (Thaler and Ravishankar, 1998): when one comes or goes, only what belongs
    to it moves. As in consistent hashing with bounded loads (Mirrokni et al., 2018), a call goes to the first in its
    rank that is not too busy, so that a popular key spills over to one more replica, and then to a third.

    A call without affinity goes to the less busy one of two random replicas, as with Ray Serve's own router. Unlike
    there, a replica that was chosen for a request is given to that request, not to the one that waits longest.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranks of replicas; Ray tries the next rank when those of one take nothing more."""
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        key = _affinity_of(pending_request)
        if key is None or len(candidate_replicas) < 2:
            return [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]
        lengths = {each.replica_id.unique_id: self._queue_length(each) for each in candidate_replicas}
        replicas = {each.replica_id.unique_id: each for each in candidate_replicas}
        return [[replicas[name]] for name in ranked(key, lengths)]

    def _queue_length(self, replica: RunningReplica) -> int:
        """What the replica last said, and what was sent since; 0 if that was long ago: nothing was sent since."""
        return self.replica_queue_len_cache.get(replica.replica_id) or 0


def ranked(key: str, lengths: dict[str, int]) -> Sequence[str]:
    """Replicas by preference: those of the key first, but for those with much longer queues than the shortest."""
    most = 2 * min(lengths.values()) + SLACK
    return sorted(lengths, key=lambda replica: (lengths[replica] > most, _weight(key, replica)))


def _weight(key: str, replica: str) -> bytes:
    return blake2b(f"{key}\0{replica}".encode(), digest_size=8).digest()


def _affinity_of(pending: PendingRequest) -> str | None:
    call = pending.args[0] if pending.args else None
    return call.affinity if isinstance(call, Call) else None
