"""Which deployments there are, and how they scale where serve_config.yaml says nothing else."""

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig, RequestRouterConfig

from specktrack.errors import ConfigError
from specktrack.serving.batches import BatchReplica
from specktrack.serving.catalog import catalog
from specktrack.serving.config import parse_args
from specktrack.serving.ingress import Ingress
from specktrack.serving.problems import RETRY_AFTER_S
from specktrack.serving.replica import TrackingReplica

ROUTER = RequestRouterConfig(
    request_router_class="specktrack.serving.routing:SessionRouter", request_routing_stats_period_s=1
)
SCALING = {"policy": {"policy_function": "specktrack.serving.scaling:keep_sessions"}, "metrics_interval_s": 1}
ONLINE = {
    "min_replicas": 1,
    "max_replicas": 8,
    "target_ongoing_requests": 4,
    "upscale_delay_s": 5,
    "downscale_delay_s": 60,
}


def build(args: dict[str, Any]) -> Application:
    """Ingress -> networks and batches. ConfigError or CheckpointError keeps a server from starting wrongly."""
    config = parse_args(args)
    models = catalog(config)
    handles: dict[str, Any] = {}
    # Template asks for no core: on two of them Windowed and one actor of a batch's Ray Data run must find room.
    if unserved := [model for model in models if model.family in ("repair", "kind")]:
        what = f"a {unserved[0].family} network cannot be served"
        raise ConfigError(what, unserved[0].name, "models")
    for name, takes_prompt, num_cpus in (("Windowed", False, 1), ("Template", True, 0)):
        served = tuple(model for model in models if model.takes_prompt is takes_prompt)
        if served or name == "Windowed":
            handles[name.lower()] = _tracking(name, num_cpus=num_cpus).bind(config, served)
    paths = {model.name: model.path for model in models if not model.takes_prompt}
    handles["batches"] = serve.deployment(
        BatchReplica,
        name="Batches",
        max_ongoing_requests=1,
        max_queued_requests=64,  # what finds no place is asked for again: its record lies in the output
        # 1.2: one batch is one replica, also where the count wavers; two are two.
        autoscaling_config={
            "min_replicas": 0,
            "max_replicas": 4,
            "target_ongoing_requests": 1.2,
            "upscale_delay_s": 0,
            "downscale_delay_s": 60,
        },
        graceful_shutdown_timeout_s=5,  # a batch goes on elsewhere from its last record
        ray_actor_options={"num_cpus": 0},
    ).bind(config, paths)
    ingress = serve.deployment(
        serve.ingress()(Ingress),
        name="Gateway",
        max_ongoing_requests=256,
        max_queued_requests=256,
        backpressure_config=BackpressureConfig(retry_after_s=RETRY_AFTER_S),
        autoscaling_config={**ONLINE, "target_ongoing_requests": 64},
        graceful_shutdown_timeout_s=30,
        ray_actor_options={"num_cpus": 0},
    )
    return ingress.bind(config, models, **handles)


def _tracking(name: str, *, num_cpus: int) -> Any:
    return serve.deployment(
        TrackingReplica,
        name=name,
        max_ongoing_requests=16,
        max_queued_requests=32,
        autoscaling_config={**ONLINE, **SCALING},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=30,
        request_router_config=ROUTER,
        ray_actor_options={"num_cpus": num_cpus},
    )
