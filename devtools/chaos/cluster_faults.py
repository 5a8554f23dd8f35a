"""Faults of a Redis Cluster, and moves of its slots, while users talk."""

from __future__ import annotations

import time

from chatbot.store.cluster.pool import slot_of
from devtools.chaos.scene import Scene
from devtools.harness.cluster_deployment import ClusterDeployment
from devtools.harness.deployment import eventually
from devtools.harness.redis_cluster import SLOTS

#: Slots that one round of `move_slots` moves.
MOVED = 1000
#: Seconds for which a master stays frozen after its replica was promoted.
FROZEN = 2.0


def kill_cluster_master(scene: Scene[ClusterDeployment]) -> None:
    """SIGKILL of a master; its replica is promoted, and the former master returns as a replica."""
    cluster, victim = scene.chat.cluster, _strike_master(scene)
    cluster.kill(victim)
    eventually(lambda: victim not in cluster.masters(), 30, "the replica is master")
    cluster.restart(victim)
    cluster.wait_until_healthy()


def freeze_cluster_master(scene: Scene[ClusterDeployment]) -> None:
    """SIGSTOP of a master until its replica was promoted, then SIGCONT."""
    cluster, victim = scene.chat.cluster, _strike_master(scene)
    cluster.freeze(victim)
    eventually(lambda: victim not in cluster.masters(), 30, "the replica is master")
    time.sleep(FROZEN)
    cluster.wake(victim)
    cluster.wait_until_healthy()


def move_slots(scene: Scene[ClusterDeployment]) -> None:
    """Slots in a row move to the next master, one after the other, with the sessions that they hold."""
    cluster = scene.chat.cluster
    first = scene.round * MOVED % (SLOTS - MOVED)
    scene.strike()
    masters = cluster.masters()
    target = masters[(masters.index(cluster.owner(first)) + 1) % len(masters)]
    for slot in range(first, first + MOVED):
        cluster.move_slot(slot, target)
    cluster.wait_until_healthy()


def _strike_master(scene: Scene[ClusterDeployment]) -> int:
    """A master that fails now: replies of its sessions are struck."""
    cluster = scene.chat.cluster
    masters = cluster.masters()
    victim = masters[scene.round % len(masters)]
    struck = [
        one.message
        for one in scene.owed()
        if cluster.owner(slot_of(scene.chat.partitions.of(one.session).shared.ledger)) == victim
    ]
    scene.crowd.mark_fault(struck)
    return victim
