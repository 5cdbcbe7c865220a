"""The dashboards: which panels tell their story, in which order. Widths are columns of the grid, heights its rows."""

from typing import Final

from grafana import panels as p
from grafana.layout import Page, section, shelf

SCRAPE_HEALTH: Final = section("Can these numbers be believed?", shelf(6, (12, p.SCRAPES), (12, p.SCRAPE_TIME)))
"""The end of every page. [conventions CV-26]"""

OVERVIEW: Final = Page(
    uid="paxos-overview",
    title="Paxos: Overview",
    story="Is the cluster well, who leads it, and since when? Then what clients get, and where each node stands.",
    sections=(
        section(
            "Now",
            shelf(
                5,
                (5, p.HEALTH),
                (4, p.HEALTH_SINCE),
                (5, p.LEADER),
                (4, p.LEADER_SINCE),
                (3, p.NODES_MISSING),
                (3, p.ALERTS),
            ),
            shelf(4, (24, p.HEALTH_OVER_TIME)),
            shelf(7, (14, p.FOLLOWED), (10, p.ALERTS_FIRING)),
        ),
        section("What clients get", shelf(8, (9, p.REPLIES), (9, p.LATENCY), (6, p.WAITING))),
        section("Progress of the log", shelf(8, (9, p.APPLIED), (9, p.BEHIND), (6, p.DECIDED))),
        section("The nodes", shelf(7, (24, p.NODES))),
        SCRAPE_HEALTH,
    ),
)

FAILOVER: Final = Page(
    uid="paxos-failover",
    title="Paxos: Failover",
    story="What happened when the leader was lost: how long each phase took, who followed whom, and what clients "
    "noticed. Purple marks are the exact times that nodes report, orange ones those of a bench's clients.",
    all_phases=True,
    client_phases=True,
    sections=(
        section(
            "The last failover",
            shelf(5, (4, p.LEADER), (4, p.TAKEN_OVER), (4, p.TOOK), (9, p.PHASES), (3, p.CHANGES_NOW)),
        ),
        section(
            "Who led, and who was there",
            shelf(7, (24, p.FOLLOWED)),
            shelf(8, (12, p.LINKS), (12, p.SUSPICIONS)),
        ),
        section(
            "What clients noticed",
            shelf(8, (12, p.BENCH_WAITING), (12, p.BENCH_RECONNECTS)),
            shelf(8, (12, p.BY_NODE), (12, p.UNSERVED)),
        ),
        section(
            "The election",
            shelf(8, (8, p.CAUSES), (8, p.ROUND), (8, p.ATTEMPTS)),
            shelf(8, (12, p.PHASES_OVER_TIME), (12, p.PHASE1)),
        ),
        section("Coming back", shelf(8, (8, p.BEHIND), (8, p.CATCH_UP), (8, p.RECONNECTS))),
        SCRAPE_HEALTH,
    ),
)

NODE: Final = Page(
    uid="paxos-node",
    title="Paxos: Node internals",
    story="Where a node's time, memory and disk go. Choose one node above, or compare them.",
    sections=(
        section("The nodes", shelf(6, (16, p.NODES), (4, p.WAL_ERRORS), (4, p.MISMATCHES))),
        section("The way of a command", shelf(8, (10, p.COMMIT), (7, p.APPLY), (7, p.BUFFERED))),
        section(
            "The event loop",
            shelf(8, (6, p.REACTOR), (6, p.REACTOR_CELLS), (6, p.HEARTBEATS), (6, p.CPU)),
        ),
        section(
            "The disk",
            shelf(8, (8, p.FSYNC), (8, p.COMMITS), (8, p.WRITE_QUEUE)),
            shelf(8, (6, p.WAL_SIZE), (6, p.SINCE_SNAPSHOT), (6, p.SNAPSHOTS), (6, p.DISK_FREE)),
        ),
        section("Queues and state", shelf(8, (8, p.WAITING), (8, p.KEPT), (8, p.KINDS))),
        section(
            "Links to other nodes",
            shelf(8, (6, p.LINKS), (6, p.PEER_RTT), (6, p.TRAFFIC), (6, p.DROPPED)),
            shelf(8, (12, p.MESSAGES), (12, p.REJECTED)),
        ),
        section("Memory and files", shelf(8, (8, p.MEMORY), (8, p.GARBAGE), (8, p.FILES))),
        SCRAPE_HEALTH,
    ),
)

CLIENTS: Final = Page(
    uid="paxos-clients",
    title="Paxos: Clients and bench",
    story="What clients ask, what they get and how fast: as the nodes see it, and as the clients of a bench do that "
    "runs with --metrics-port. Orange marks are the phases of a failover that only clients see.",
    client_phases=True,
    sections=(
        section("Now", shelf(5, (6, p.ANSWERS_NOW), (6, p.ANSWERED_SHARE), (6, p.LATENCY_NOW), (6, p.BENCH_LONGEST))),
        section(
            "What a bench sees",
            shelf(8, (8, p.BENCH_RTT), (8, p.BENCH_WAITING), (8, p.BENCH_RECONNECTS)),
        ),
        section(
            "What they get",
            shelf(9, (8, p.REPLIES), (8, p.LATENCY), (8, p.BENCH_OUTCOMES)),
            shelf(9, (12, p.LATENCY_CELLS), (12, p.LATENCY_BY_OP)),
        ),
        section("What they ask, and whom", shelf(8, (8, p.BY_OP), (8, p.BY_NODE), (8, p.REDIRECTS))),
        section(
            "Load on the nodes",
            shelf(8, (6, p.CONNECTIONS), (6, p.WAITING), (6, p.SESSIONS), (6, p.UNSERVED)),
        ),
        SCRAPE_HEALTH,
    ),
)

ENGINES: Final = Page(
    uid="paxos-engines",
    title="Paxos: Engines side by side",
    story="What clients get from each engine and what it costs, for all clusters that Prometheus knows: start two of "
    "them with different engines and the same load. Below, what only EPaxos and only primary-backup have.",
    sections=(
        section("What clients get", shelf(8, (8, p.SIDE_ANSWERS), (8, p.SIDE_HALF), (8, p.SIDE_P99))),
        section(
            "What it costs",
            shelf(8, (8, p.SIDE_CPU), (8, p.SIDE_MESSAGES), (8, p.SIDE_BYTES)),
            shelf(8, (8, p.SIDE_COMMIT), (8, p.SIDE_FSYNCS), (8, p.SIDE_BUSIEST)),
        ),
        section(
            "EPaxos: the chosen cluster",
            shelf(8, (8, p.EPAXOS_COMMITS), (8, p.EPAXOS_FAST), (8, p.EPAXOS_TROUBLE)),
            shelf(8, (8, p.EPAXOS_LAG), (8, p.EPAXOS_GRAPH), (8, p.EPAXOS_COMPONENTS)),
        ),
        section(
            "Primary-backup: the chosen cluster",
            shelf(8, (8, p.VIEW_EPOCH), (8, p.VIEW_BACKUPS), (8, p.BACKUP_LAG)),
        ),
        SCRAPE_HEALTH,
    ),
)

CHAT: Final = Page(
    uid="paxos-chat",
    title="Paxos: Chat",
    story="How much is said, who listens, and what a failover does to it.",
    sections=(
        section("Now", shelf(5, (5, p.HEALTH), (5, p.LEADER), (4, p.CHAT_ROOMS), (5, p.CHAT_KEPT), (5, p.LATENCY_NOW))),
        section("What is said", shelf(9, (12, p.CHAT_POSTED), (12, p.LATENCY_BY_OP))),
        section("Who listens", shelf(8, (8, p.FOLLOWERS), (8, p.FEED_EVENTS), (8, p.CONNECTIONS))),
        section("Failovers", shelf(7, (24, p.FOLLOWED)), shelf(8, (12, p.CHAT_KEPT_OVER_TIME), (12, p.UNSERVED))),
        SCRAPE_HEALTH,
    ),
)

AUCTION: Final = Page(
    uid="paxos-auction",
    title="Paxos: Auction",
    story="What is on offer, what is bid for it, and what a failover does to it.",
    sections=(
        section(
            "Now",
            shelf(
                5,
                (4, p.HEALTH),
                (4, p.LEADER),
                (4, p.AUCTIONS_LIVE),
                (4, p.AUCTION_HIGHEST),
                (4, p.AUCTION_END),
                (4, p.AUCTIONS_KNOWN),
            ),
        ),
        section("The bids", shelf(9, (12, p.AUCTION_HIGHEST_OVER_TIME), (12, p.AUCTION_BIDS))),
        section("Who watches", shelf(8, (8, p.FOLLOWERS), (8, p.FEED_EVENTS), (8, p.LATENCY_BY_OP))),
        section("Failovers", shelf(7, (24, p.FOLLOWED)), shelf(8, (12, p.AUCTION_LIVE_OVER_TIME), (12, p.UNSERVED))),
        SCRAPE_HEALTH,
    ),
)

PAGES: Final = (OVERVIEW, FAILOVER, NODE, CLIENTS, ENGINES, CHAT, AUCTION)
