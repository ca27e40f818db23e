"""How many replicas hold networks: Serve's own rule, to which a live stream or session is work.

Between two frames a session is no request, and Serve, which chooses the replica that goes, knows of none.
"""

from typing import Any

from ray.serve.config import AutoscalingContext


def keep_sessions(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Replicas wanted: requests and resting sessions over the target; none goes as long as a session lives anywhere.

    ``policy.policy_function`` of a deployment of TrackingReplica; Serve applies its bounds and delays to the answer.
    """
    reported = context.aggregated_metrics or {}
    live, resting = (sum(reported.get(name, {}).values()) for name in ("sessions", "resting"))
    wanted = (context.total_num_requests + resting) / context.config.get_target_ongoing_requests()
    return max(wanted, context.target_num_replicas) if live else wanted, {}
