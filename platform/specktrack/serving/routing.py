"""Which replica answers: for a session the one that holds it, else the less busy one that has the model loaded."""

from typing import Any

from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class SessionRouter(PowerOfTwoChoicesRequestRouter):
    """Serve's default router, which sends a request with a session id to the replica that the id names.

    If that replica is gone, another one answers, and says so.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranks of replicas to try."""
        home = pending_request.metadata.session_id if pending_request is not None else ""
        if home:
            found = [replica for replica in candidate_replicas if replica.replica_id.unique_id == home]
            if found:
                return [found]
        return await super().choose_replicas(candidate_replicas, pending_request)

    def _fulfill_next_pending_request(self, replica: RunningReplica, request_metadata: Any = None) -> None:
        """The request for which the replica was chosen, not the first in the queue: the base class's own rule."""
        RequestRouter._fulfill_next_pending_request(self, replica, request_metadata)


def home_of(key: str) -> str:
    """The replica that a session's id names."""
    return key.rpartition(".")[0]
