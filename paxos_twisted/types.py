"""The few words that every layer shares."""

from typing import NewType

NodeId = NewType("NodeId", int)
"""A replica of the cluster, 1..NODE_ID_MAX."""

ClientId = NewType("ClientId", int)
"""A client session: 63 random bits, unique for ever. A restarted client takes a new one."""

Slot = int
"""Position in the log, from 0. [Paxos Made Simple, section 3]"""

Round = int
"""Totally ordered; each round belongs to one proposer. [Paxos Made Simple, section 2.2]"""

NO_ROUND: Round = -1
"""Lower than every real round."""

NO_SLOT: Slot = -1
"""`adu` of a log in which nothing is decided."""

NO_NODE = NodeId(-1)
"""Stands for "nobody", e.g. when no leader is known."""
