"""Every panel: what is asked, how it looks, and one sentence that says what it shows."""

from typing import Final

from grafana import queries as q
from grafana.looks import (
    BAD,
    GOOD,
    HEALTH_NAMES,
    NODE_NAMES,
    PLAIN,
    UP_NAMES,
    WARN,
    Steps,
    alerts,
    heat,
    lanes,
    lines,
    nodes,
    number,
    parts,
)
from paxos_twisted.limits import PROPOSALS_MAX, WRITES_QUEUED_BYTES_MAX
from prometheus.thresholds import (
    DISK_FREE_BYTES,
    FAILOVER_CRASH_S,
    FAILOVER_POWER_CUT_S,
    FSYNC_S,
    LAG_SLOTS,
    LATENCY_S,
    LEADER_CHANGES_SPARE,
    REACTOR_S,
    SCRAPE_TIMEOUT_S,
)

AGO: Final = "dateTimeFromNow"


def up_to(limit: float, colour: str = BAD) -> Steps:
    """Good below the limit."""
    return ((None, GOOD), (limit, colour))


NONE: Final = up_to(1)
"""Good if 0."""

ANY: Final[Steps] = ((None, PLAIN), (0, PLAIN))
"""No value is better than another."""

GAP: Final[Steps] = ((None, GOOD), (FAILOVER_CRASH_S, WARN), (FAILOVER_POWER_CUT_S, BAD))
"""What a failover may take after the death of a process, and of a machine."""

# Now

HEALTH = number(
    "Health",
    "HEALTHY: all nodes are up; DEGRADED: clients are served but a node is missing; DOWN: no leader or no quorum.",
    q.HEALTH_NOW,
    names=HEALTH_NAMES,
)
HEALTH_SINCE = number(
    "In this state since", "When the cluster got into this state of health.", q.HEALTH_SINCE_NOW, unit=AGO
)
LEADER = number("Leader", "The node that leads, by its own word.", q.LEADER_NOW, names=NODE_NAMES)
LEADER_SINCE = number(
    "Leads since", "When this node took the lead, or when the last leader was lost.", q.LEADER_SINCE_NOW, unit=AGO
)
NODES_MISSING = number(
    "Nodes missing", "Members of the cluster that are down or cut off.", q.NODES_MISSING, steps=up_to(1, WARN)
)
ALERTS = number("Alerts", "How many alerts fire; the table below names them.", q.ALERTS_FIRING, steps=NONE)
HEALTH_OVER_TIME = lanes(
    "Health over time",
    "When the cluster was healthy, degraded or down.",
    q.HEALTH_OVER_TIME,
    names=HEALTH_NAMES,
)
FOLLOWED = lanes(
    "Whom each node follows",
    "One lane a node, the colour is its leader: lanes of one colour agree, and a failover is where all change.",
    q.FOLLOWED,
    names=NODE_NAMES,
)
ALERTS_FIRING = alerts(
    "Alerts that fire", "Each has a page in docs/runbooks that says what to look at first.", q.ALERTS_SINCE
)

# Clients

REPLIES = lines(
    "Replies by outcome",
    "Requests per second by how they ended (rejected: the bank said no); a gap is a time without replies.",
    q.REQUESTS_BY_OUTCOME,
    unit="reqps",
    stacked=True,
)
LATENCY = lines(
    "Time to answer",
    "From a request's arrival to its answer, at the node that answered; above the line the alert fires.",
    *q.LATENCY,
    unit="s",
    steps=up_to(LATENCY_S),
)
LATENCY_CELLS = heat(
    "Time to answer, all of it",
    "How many requests took how long; a failover is a cell high up.",
    q.LATENCY_BUCKETS,
    unit="s",
)
LATENCY_BY_OP = lines(
    "Time to answer by operation",
    "The time within which 99 of 100 requests of each operation were answered.",
    q.LATENCY_BY_OP,
    unit="s",
    steps=up_to(LATENCY_S),
)
WAITING = lines(
    "Commands that wait",
    "Commands that wait at a node or are proposed and not decided; beyond the line clients are not read.",
    q.PROPOSALS_OPEN,
    unit="short",
    steps=up_to(PROPOSALS_MAX // 2, WARN),
)
ANSWERS_NOW = number(
    "Answers",
    "Requests per second that were answered; a refusal by the bank is an answer.",
    q.ANSWERED_NOW,
    unit="reqps",
)
ANSWERED_SHARE = number(
    "Answered",
    "Share of the requests of five minutes that were answered where they arrived.",
    q.ANSWERED_SHARE,
    unit="percentunit",
    steps=((None, BAD), (0.95, WARN), (0.99, GOOD)),
)
LATENCY_NOW = number(
    "99 of 100 within",
    "The time within which 99 of 100 requests of the last minute were answered.",
    q.LATENCY_P99_NOW,
    unit="s",
    steps=up_to(LATENCY_S),
)
BENCH_RTT = lines(
    "Round trips of a bench",
    "From a request to its answer as clients see it, retries included; a bench shows it with --metrics-port.",
    *q.BENCH_RTT,
    unit="s",
    steps=up_to(LATENCY_S),
)
BENCH_OUTCOMES = lines(
    "What a bench got",
    "Requests of a bench per second, by how they ended.",
    q.BENCH_OUTCOMES,
    unit="reqps",
    stacked=True,
)
BENCH_WAITING = lines(
    "Waits of clients",
    "How long the client of a bench has waited that waits longest, and the longest wait so far.",
    *q.BENCH_WAITING,
    unit="s",
    steps=GAP,
)
BENCH_LONGEST = number(
    "Longest wait of a client",
    "The longest time without an answer that a client of the bench has seen so far.",
    q.BENCH_LONGEST,
    unit="s",
    steps=GAP,
)
BENCH_RECONNECTS = lines(
    "Why clients left a node",
    "Times that clients of a bench left a node or did not reach it, by cause.",
    q.BENCH_RECONNECTS,
    unit="short",
    bars=True,
)
BY_OP = lines(
    "Requests by operation", "Requests per second by what was asked.", q.REQUESTS_BY_OP, unit="reqps", stacked=True
)
BY_NODE = lines(
    "Requests at each node",
    "Requests per second that reached each node; all belong at the leader, and move when it changes.",
    q.REQUESTS_BY_NODE,
    unit="reqps",
    stacked=True,
)
REDIRECTS = lines(
    "Sent to the leader",
    "Clients per second that came to another node and were sent to the leader.",
    q.REDIRECTS,
    unit="ops",
)
UNSERVED = lines(
    "Requests without an answer",
    "Requests per second that a node did not answer but sent elsewhere, or back.",
    q.REQUESTS_UNSERVED,
    unit="reqps",
    bars=True,
)
CONNECTIONS = lines("Connections", "Open connections of clients.", q.CONNECTIONS, unit="short")
SESSIONS = lines(
    "Sessions", "Client sessions in the replicated state; silent ones go in the end.", q.SESSIONS, unit="short"
)

# The log

APPLIED = lines(
    "Slots applied",
    "Slots per second that each node applied; the lines of healthy nodes lie on each other.",
    q.APPLIED,
    unit="ops",
)
BEHIND = lines(
    "Slots behind",
    "How far each node is behind the furthest one; nodes are scraped at different moments, which adds a little.",
    q.BEHIND,
    unit="short",
    steps=up_to(LAG_SLOTS, WARN),
)
DECIDED = lines(
    "Decided slot", "Every slot up to here is decided, as each node knows it.", q.DECIDED_SLOT, unit="short"
)
KINDS = lines(
    "What slots held",
    "Slots applied per second by what was in them, over the chosen nodes.",
    q.APPLIED_BY_KIND,
    unit="ops",
    stacked=True,
)
KEPT = lines(
    "Slots kept in the log",
    "Applied slots that the log still holds for followers that lag a little.",
    q.LOG_KEPT,
    unit="short",
)

COMMIT = lines(
    "Commits",
    "From a command's arrival at a node to its decision, without the way to the client.",
    *q.COMMIT,
    unit="s",
    steps=up_to(LATENCY_S),
)
APPLY = lines(
    "Applying",
    "The time within which 99 of 100 runs of commands were applied.",
    q.APPLY,
    unit="s",
    steps=up_to(LATENCY_S),
)
BUFFERED = lines(
    "Decided above a hole",
    "Slots that are decided and wait for one below them; some come and go when messages are lost.",
    q.BUFFERED,
    unit="short",
)
MISMATCHES = number(
    "States that differ", "Times that a peer had another state after the same slot; never.", q.MISMATCHES, steps=NONE
)

# Failover

TAKEN_OVER = number("Last take-over", "When a node last began phase 1.", q.TAKEN_OVER, unit=AGO)
TOOK = number(
    "It took",
    "All phases at the node that leads now, without the time that clients needed to find it.",
    q.PHASES_TOTAL,
    unit="s",
    steps=GAP,
)
PHASES = parts(
    "Its anatomy",
    "Each phase at the present leader, and the two that only clients see, by a bench; 0 is a phase that did not occur.",
    *q.PHASES_NOW,
    unit="s",
    steps=GAP,
)
CHANGES_NOW = number(
    "In ten minutes",
    "Changes of leader as the node saw them that saw most; a rolling restart causes at most one a node.",
    q.CHANGES_NOW,
    steps=up_to(3 + LEADER_CHANGES_SPARE + 1, WARN),
)
SUSPICIONS = lines(
    "Suspicions",
    "Times that the failure detector of a node suspected another one.",
    q.SUSPICIONS,
    unit="short",
    bars=True,
)
CAUSES = lines(
    "Changes of leader",
    "Times that nodes began to follow another leader, by what made them do so.",
    q.CHANGES_BY_CAUSE,
    unit="short",
    bars=True,
)
ROUND = lines(
    "Round",
    "The highest round that each node has promised; its last three digits are the node that began it.",
    q.ROUND,
    unit="none",
    steady=True,
)
ATTEMPTS = lines(
    "Phase 1 attempts", "Phases 1 that nodes began, by how they ended.", q.PHASE1_ATTEMPTS, unit="short", bars=True
)
PHASES_OVER_TIME = lines(
    "Phases of the leader",
    "How long the node that leads needed for each phase when it took over.",
    *q.PHASES_OVER_TIME,
    unit="s",
    stacked=True,
    steady=True,
    steps=GAP,
)
PHASE1 = lines(
    "Phase 1, mean of five minutes",
    "From the first Prepare to a majority of promises, at nodes that ran for leader.",
    q.PHASE1_MEAN,
    unit="s",
)
CATCH_UP = lines("Catching up", "Messages per second by which nodes get what they missed.", q.CATCH_UP, unit="ops")

# Links

LINKS = lanes(
    "Links",
    "Whether each node has a link to each other node; a crash cuts all links of one node.",
    q.LINKS,
    names=UP_NAMES,
)
RECONNECTS = lines(
    "Links that came back", "Times that a link between nodes came up again.", q.RECONNECTS, unit="short", bars=True
)
PEER_RTT = lines(
    "Round trips between nodes",
    "The time within which 99 of 100 round trips of each link were made, as TCP measures them.",
    q.PEER_RTT,
    unit="s",
)
TRAFFIC = lines(
    "Traffic", "Bytes per second that each node sent to the others and received from them.", q.BYTES, unit="binBps"
)
DROPPED = lines("Messages dropped", "Messages per second that were not sent on, by reason.", q.DROPPED, unit="ops")
MESSAGES = lines(
    "Messages sent",
    "Messages per second between nodes by type, over the chosen nodes.",
    q.MESSAGES,
    unit="ops",
    stacked=True,
)
REJECTED = lines(
    "Connections rejected",
    "Connections of clients and nodes per second closed because of what came over them, or because it did not come.",
    q.REJECTED,
    unit="ops",
)

# Inside a node

NODES = nodes("Nodes", "Where each node stands now; a node that does not answer has empty cells.")
WAL_ERRORS = number("Failed writes", "Writes to the log that failed; each stops its node.", q.WAL_ERRORS, steps=NONE)
REACTOR = lines(
    "Reactor lag",
    "How late the reactor calls what was due; above the line the alert fires.",
    *q.REACTOR,
    unit="s",
    steps=up_to(REACTOR_S, WARN),
)
REACTOR_CELLS = heat(
    "Reactor lag, all of it",
    "How often the reactor was how late; a single long stall is a lonely cell high up.",
    q.REACTOR_BUCKETS,
    unit="s",
)
HEARTBEATS = lines(
    "Late heartbeats",
    "How late heartbeats left; as late as the detector's delay, and the others suspect this node.",
    q.HEARTBEATS,
    unit="s",
    steps=up_to(REACTOR_S, WARN),
)
SNAPSHOTS = lines(
    "Time for a snapshot",
    "From the beginning of a snapshot until it is durable, mean of five minutes.",
    q.SNAPSHOTS,
    unit="s",
)
CPU = lines(
    "CPU",
    "Share of one core that each node uses; one thread does most of the work, so 100 % is full.",
    q.CPU,
    unit="percentunit",
    steps=up_to(1, WARN),
)
FSYNC = lines(
    "Durable commits",
    "How long a group of writes took until it was on disk; above the line the alert fires.",
    *q.FSYNC,
    unit="s",
    steps=up_to(FSYNC_S, WARN),
)
COMMITS = lines("Commits per second", "Durable commits, each of all writes that had gathered.", q.COMMITS, unit="ops")
WRITE_QUEUE = lines(
    "Waiting for the disk",
    "Bytes of records that wait for the disk; from half of the line on the node takes no more commands.",
    q.WRITE_QUEUE,
    unit="bytes",
    steps=up_to(WRITES_QUEUED_BYTES_MAX),
)
WAL_SIZE = lines("Size of the log", "Bytes of the log and its snapshots on disk.", q.WAL_SIZE, unit="bytes")
SINCE_SNAPSHOT = lines(
    "Slots since the snapshot",
    "Slots applied since the newest durable snapshot; a restart applies them again.",
    q.SINCE_SNAPSHOT,
    unit="short",
)
DISK_FREE = lines(
    "Space left",
    "Free bytes where the data directory is; below the line the alert fires.",
    q.DISK_FREE,
    unit="bytes",
    steps=((None, BAD), (DISK_FREE_BYTES, GOOD)),
)
MEMORY = lines("Memory", "Bytes of each process in memory.", q.MEMORY, unit="bytes")
GARBAGE = lines(
    "Garbage collections",
    "Runs of Python's garbage collector per second; the hot path should cause hardly any.",
    q.GARBAGE,
    unit="ops",
)
FILES = lines("Open files", "File descriptors in use: connections and the log.", q.FILES, unit="short")

# Engines side by side

SIDE_ANSWERS = lines(
    "Answers", "Answered requests per second of each cluster, by the engine that it runs.", q.SIDE_ANSWERS, unit="reqps"
)
SIDE_HALF = lines(
    "Half of all answers within", "The median time from a request's arrival to its answer.", q.SIDE_HALF, unit="s"
)
SIDE_P99 = lines(
    "99 of 100 answers within",
    "The time within which 99 of 100 requests were answered, at the node that answered.",
    q.SIDE_P99,
    unit="s",
    steps=up_to(LATENCY_S),
)
SIDE_COMMIT = lines(
    "99 of 100 commits within", "From a command's arrival at a node to its decision.", q.SIDE_COMMIT, unit="s"
)
SIDE_MESSAGES = lines(
    "Messages per answer",
    "Messages between nodes for each answered request, heartbeats too.",
    q.SIDE_MESSAGES,
    unit="short",
)
SIDE_BYTES = lines(
    "Bytes per answer", "Bytes that nodes sent to each other for each answered request.", q.SIDE_BYTES, unit="bytes"
)
SIDE_CPU = lines(
    "CPU per answer", "Processor time of all nodes together for each answered request.", q.SIDE_CPU, unit="s"
)
SIDE_FSYNCS = lines(
    "Durable commits per answer",
    "Groups of writes that all nodes together brought to disk for each answered request; below 1 they share.",
    q.SIDE_FSYNCS,
    unit="short",
)
SIDE_BUSIEST = lines(
    "Share of the busiest node",
    "Requests that arrived at the node that got most; near 1 with a leader, near 1/n without.",
    q.SIDE_BUSIEST,
    unit="percentunit",
)
EPAXOS_COMMITS = lines(
    "Commits by path", "Instances decided per second on the fast and slow path, and by recoveries.", q.EPAXOS_COMMITS,
    unit="ops", stacked=True,
)  # fmt: skip
EPAXOS_FAST = lines(
    "Share of the fast path",
    "Instances that took one round trip; conflicts and lost replicas take it away.",
    q.EPAXOS_FAST,
    unit="percentunit",
)
EPAXOS_GRAPH = lines(
    "Instances known", "Instances that wait and that are kept, at the node that has most.", q.EPAXOS_GRAPH, unit="short"
)
EPAXOS_COMPONENTS = lines(
    "Size of components",
    "Instances that depend on each other in a circle and are executed as one, 99 of 100.",
    q.EPAXOS_COMPONENTS,
    unit="short",
)
EPAXOS_LAG = lines(
    "From commit to execution",
    "How long own instances waited for what they depend on, 99 of 100.",
    q.EPAXOS_LAG,
    unit="s",
)
EPAXOS_TROUBLE = lines(
    "Recoveries and repetitions",
    "Recoveries, commands proposed again, and chosen replicas that were silent, per second.",
    *q.EPAXOS_TROUBLE,
    unit="ops",
)
VIEW_EPOCH = lines(
    "View", "The newest view that each node knows; each change is a new one.", q.VIEW_EPOCH, unit="none", steady=True
)
VIEW_BACKUPS = lines(
    "Backups",
    "Nodes that have everything that is committed, besides the primary.",
    q.VIEW_BACKUPS,
    unit="short",
    steady=True,
)
BACKUP_LAG = lines(
    "Backups behind",
    "Slots that the primary has given out and a backup has not acknowledged.",
    q.BACKUP_LAG,
    unit="short",
)

# Chat and auctions

CHAT_ROOMS = number("Rooms", "Rooms of the chat.", q.CHAT_ROOMS, steps=ANY)
CHAT_KEPT = number("Messages kept", "Messages that the rooms keep.", q.CHAT_KEPT, steps=ANY)
CHAT_POSTED = lines("Messages posted", "Messages put into rooms per second.", q.CHAT_POSTED, unit="ops")
CHAT_KEPT_OVER_TIME = lines(
    "Messages kept by each node", "The lines of healthy nodes lie on each other.", q.CHAT_KEPT_OVER_TIME, unit="short"
)
AUCTIONS_LIVE = number("Open auctions", "Auctions that take bids.", q.AUCTIONS_LIVE, steps=ANY)
AUCTIONS_KNOWN = number("All auctions", "Auctions that are open or over.", q.AUCTIONS_KNOWN, steps=ANY)
AUCTION_HIGHEST = number("Highest bid", "The highest bid of all open auctions.", q.AUCTION_HIGHEST, steps=ANY)
AUCTION_END = number("Next deadline", "When the open auction ends that ends first.", q.AUCTION_END, unit=AGO)
AUCTION_HIGHEST_OVER_TIME = lines(
    "Highest bid over time",
    "The highest bid of all open auctions; it falls when that auction ends.",
    q.AUCTION_HIGHEST_OVER_TIME,
    unit="short",
    steady=True,
)
AUCTION_BIDS = lines(
    "Bids", "Bids executed per second, by what became of them.", q.AUCTION_BIDS, unit="ops", stacked=True
)
AUCTION_LIVE_OVER_TIME = lines(
    "Open auctions over time", "As each node has it; a failover must not close any.", q.AUCTION_LIVE_OVER_TIME,
    unit="short", steady=True,
)  # fmt: skip
FOLLOWERS = lines("Followers", "Rooms or auctions that clients follow at each node.", q.FOLLOWERS, unit="short")
FEED_EVENTS = lines(
    "Events to followers", "Events per second that each node sent to followers.", q.FEED_EVENTS, unit="ops"
)

# Scrapes

SCRAPES = lanes(
    "Scrapes",
    "Whether each node answered Prometheus; while it did not, its other numbers are missing.",
    q.UP,
    names=UP_NAMES,
)
SCRAPE_TIME = lines(
    "Time to scrape",
    "How long a node took to show its metrics; at the line the scrape is given up.",
    q.SCRAPE_S,
    unit="s",
    steps=up_to(SCRAPE_TIMEOUT_S),
)
