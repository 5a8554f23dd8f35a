"""The plans that `python -m bench.scale simulate` runs: twice the capacity, small and large, and with faults."""

from __future__ import annotations

from dataclasses import replace

from bench.scale.parts import Plan
from bench.scale.servers import Crowd

#: 8 slots, and 60 users of whom each has one message at a time.
_SMALL = Plan("8 slots, one Redis", rate=8, workers=2, slots=4, sessions=60, seconds=120, failing=0.01)
#: A worker of default size.
_ONE = Plan("500 slots, one Redis", rate=500, workers=1, slots=500, sessions=6000, failing=0.01)
#: 10 000 messages a second arrive, for half of which there are slots.
_LARGE = Plan(
    "10 000 slots, one Redis", rate=10_000, workers=20, slots=500, sessions=80_000, seconds=50, failing=0.01, spread=0.2
)
_NODES = 16

CALM = (
    _SMALL,
    replace(_SMALL, name="8 slots, 4 Redis", partitions=4, nodes=4),
    replace(_SMALL, name="8 slots, cluster of 4, 128 partitions", partitions=128, nodes=4),
    _ONE,
    replace(_ONE, name="500 slots, cluster of 4, 128 partitions", partitions=128, nodes=4),
    _LARGE,
    replace(_LARGE, name=f"10 000 slots, {_NODES} Redis", partitions=_NODES, nodes=_NODES),
    replace(_LARGE, name=f"10 000 slots, cluster of {_NODES}, 128 partitions", partitions=128, nodes=_NODES),
    replace(
        _LARGE,
        name="the same, and a pace only of the partition's own line",
        partitions=128,
        nodes=_NODES,
        common_line=False,
    ),
)
FAULTS = (
    replace(_SMALL, name="8 slots: a worker of two is killed", kills=((40, 1),)),
    replace(_ONE, name="500 slots in two workers: one is killed", workers=2, slots=250, kills=((35, 1),)),
    replace(_LARGE, name="10 000 slots, one Redis: a worker of 20 is killed", kills=((30, 1),)),
    replace(_LARGE, name="10 000 slots, one Redis: 4 workers of 20 are killed", kills=((30, 4),)),
    replace(
        _LARGE,
        name=f"10 000 slots, {_NODES} Redis: 4 workers of 20 are killed",
        partitions=_NODES,
        nodes=_NODES,
        kills=((30, 4),),
    ),
    replace(
        _LARGE,
        name=f"10 000 slots, {_NODES} Redis: one is away for 5 s",
        partitions=_NODES,
        nodes=_NODES,
        lost=(30, 35),
    ),
)
#: Model servers: the product's choice (0.1 s), without Redis, and with counts of other ages.
CROWDS = (
    Crowd(2, 4, 2, reading=0.1),
    Crowd(20, 5, 4, reading=0.1),
    Crowd(20, 5, 4),
    Crowd(20, 5, 4, reading=3.0),
    Crowd(20, 5, 4, reading=0.0),
    Crowd(20, 25, 4, reading=0.1),
    Crowd(20, 25, 4),
    Crowd(20, 500, 16, seconds=12.0, reading=0.1),
)
