"""The faults of `make chaos` by name, and how one is inflicted while users talk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from devtools.chaos import cluster_faults, process_faults, surrounding_faults
from devtools.chaos.crowd import Crowd
from devtools.chaos.deployments import ClockDeployment, DiskDeployment, NetworkDeployment, VersionsDeployment
from devtools.chaos.scene import Scene
from devtools.fake_model import ModelServer
from devtools.harness.cluster_deployment import ClusterDeployment, TlsClusterDeployment
from devtools.harness.deployment import Deployment, eventually
from devtools.harness.rabbit_deployment import RabbitDeployment
from devtools.harness.sentinel_deployment import SentinelDeployment
from devtools.harness.several_redis_deployment import SeveralRedisDeployment

#: Seconds for replies to arrive before and after a fault.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Experiment:
    """A fault, how often `make chaos` repeats it, and what the users do meanwhile."""

    inflict: Callable[[Scene[Any]], None]
    times: int
    cut_often: bool = False
    #: What it runs on.
    deployment: type[Deployment] = Deployment


EXPERIMENTS = {
    "worker-kill": Experiment(process_faults.kill_worker, 10),
    "worker-freeze": Experiment(process_faults.freeze_worker, 3),
    "worker-stop": Experiment(process_faults.stop_worker, 5),
    "web-kill": Experiment(process_faults.kill_web, 8),
    "web-stop": Experiment(process_faults.stop_web, 5),
    "redis-kill": Experiment(process_faults.kill_redis, 5),
    "redis-of-three-kill": Experiment(process_faults.kill_one_redis, 6, deployment=SeveralRedisDeployment),
    "model-kill": Experiment(process_faults.kill_model, 5),
    "queue-emptied": Experiment(process_faults.empty_queue, 5),
    "queue-junk": Experiment(surrounding_faults.put_junk_into_the_queue, 3),
    "sockets-cut": Experiment(process_faults.cut_sockets, 5, cut_often=True),
    "redis-full": Experiment(surrounding_faults.fill_redis, 3),
    "redis-restored": Experiment(surrounding_faults.restore_redis, 3),
    "disk-full": Experiment(surrounding_faults.fill_disk, 3, deployment=DiskDeployment),
    "broker-half-open": Experiment(surrounding_faults.half_open_broker, 3, deployment=NetworkDeployment),
    "pubsub-half-open": Experiment(surrounding_faults.half_open_pubsub, 3, deployment=NetworkDeployment),
    "worker-partition": Experiment(surrounding_faults.partition_worker, 3, deployment=NetworkDeployment),
    "redis-slow": Experiment(surrounding_faults.slow_redis, 3, deployment=NetworkDeployment),
    "clock-ahead": Experiment(surrounding_faults.set_clock_ahead, 3, deployment=ClockDeployment),
    "clock-back": Experiment(surrounding_faults.set_clock_back, 3, deployment=ClockDeployment),
    "versions": Experiment(surrounding_faults.change_versions, 8, deployment=VersionsDeployment),
    "master-kill": Experiment(process_faults.kill_master, 3, deployment=SentinelDeployment),
    "master-freeze": Experiment(process_faults.freeze_master, 3, deployment=SentinelDeployment),
    "failover": Experiment(process_faults.fail_over, 3, deployment=SentinelDeployment),
    "cluster-worker-kill": Experiment(process_faults.kill_worker, 5, deployment=ClusterDeployment),
    "cluster-web-kill": Experiment(process_faults.kill_web, 3, deployment=ClusterDeployment),
    "cluster-master-kill": Experiment(cluster_faults.kill_cluster_master, 3, deployment=ClusterDeployment),
    "cluster-master-freeze": Experiment(cluster_faults.freeze_cluster_master, 3, deployment=ClusterDeployment),
    "cluster-reshard": Experiment(cluster_faults.move_slots, 1, deployment=ClusterDeployment),
    "cluster-tls-master-kill": Experiment(cluster_faults.kill_cluster_master, 3, deployment=TlsClusterDeployment),
    "rabbitmq-worker-kill": Experiment(process_faults.kill_worker, 20, deployment=RabbitDeployment),
    "rabbitmq-kill": Experiment(process_faults.kill_rabbitmq, 3, deployment=RabbitDeployment),
}


def run_experiment(
    chat: Deployment, model: ModelServer, name: str, times: int, users: int, *, reply_length: float = 0.0
) -> Crowd:
    """Inflicts a fault `times` times while `users` users talk, each time once replies are being streamed again."""
    experiment = EXPERIMENTS[name]

    def urls() -> list[str]:
        return [chat.url(n) for n in range(len(chat.webs))]

    with Crowd(users, urls, cut_often=experiment.cut_often, reply_length=reply_length) as crowd:
        for round_number in range(times):
            # Every fault hits users during replies, after new messages were answered.
            goal = crowd.answered() + max(users // 2, 1)
            eventually(partial(_answered, crowd, goal), _PATIENCE, f"replies arrive before fault {round_number}")
            eventually(lambda: crowd.talking() >= max(users // 4, 1), _PATIENCE, "replies are being streamed")
            experiment.inflict(Scene(chat, model, crowd, round_number))
        goal = crowd.answered() + users
        eventually(lambda: crowd.answered() >= goal, _PATIENCE, "replies arrive after the last fault")
    return crowd


def _answered(crowd: Crowd, goal: int) -> bool:
    return crowd.answered() >= goal
