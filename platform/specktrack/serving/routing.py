"""Which replica answers: for a session the one that holds it, for a new one that with the fewest, else the less busy
one that has the model loaded.
"""

import random
from typing import Any

from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class SessionRouter(PowerOfTwoChoicesRequestRouter):
    """Serve's default router, which sends a request with a session id to the replica that the id names.

    If that replica is gone, another one answers, and says so. How many sessions a replica holds is what it said last.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranks of replicas to try."""
        asked = pending_request.metadata if pending_request is not None else None
        if asked is not None and asked.session_id:
            found = [replica for replica in candidate_replicas if replica.replica_id.unique_id == asked.session_id]
            if found:
                return [found]
        elif asked is not None and asked.call_method == "open" and candidate_replicas:
            held = {replica.replica_id: replica.routing_stats.get("sessions", 0) for replica in candidate_replicas}
            mixed = random.sample(candidate_replicas, len(candidate_replicas))
            return [[replica] for replica in sorted(mixed, key=lambda replica: held[replica.replica_id])]
        return await super().choose_replicas(candidate_replicas, pending_request)

    def _fulfill_next_pending_request(self, replica: RunningReplica, request_metadata: Any = None) -> None:
        """The request for which the replica was chosen, not the first in the queue: the base class's own rule."""
        RequestRouter._fulfill_next_pending_request(self, replica, request_metadata)


def home_of(key: str) -> str:
    """The replica that a session's id names."""
    return key.rpartition(".")[0]
