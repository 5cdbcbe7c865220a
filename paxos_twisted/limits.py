"""Every bound of the system in one place, where the number comes from, and what happens at it.

Relations between bounds are asserted at import, so that a change that breaks one cannot start.
"""

from typing import Final

NODE_ID_MAX: Final = 999
"""Node ids are 1..999; see ROUND_STRIDE."""

ROUND_STRIDE: Final = 1000
"""round = counter * ROUND_STRIDE + node id. Fixed for ever, unlike "grow by N", whose residue classes collide when N
changes; and readable: round 3002 is the third round of node 2."""

NODES_MAX: Final = 9
"""Larger clusters lose more by waiting than they win by surviving."""

FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
"""A longer frame closes its connection: the sender is broken or hostile."""

CLIENT_FRAME_BYTES_MAX: Final = 1024 * 1024
"""The same towards clients, whose requests are small."""

COMMAND_BYTES_MAX: Final = 512 * 1024
"""One command, encoded. Larger ones are refused by name."""

RUN_BYTES_MAX: Final = 1024 * 1024
"""A run of commands in one Accept; more commands go into the next run."""

WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of commands that may be open (proposed, not decided) at a leader; bounds promises too."""

PROPOSALS_MAX: Final = 100_000
"""Commands that wait or are open at a node. Clients are not read beyond half of it, and refused beyond all of it."""

ALPHA_MAX: Final = 65_536
"""Slots that may be open above `adu`."""

PROMISE_SLOTS_BEHIND_MAX: Final = 10_000
"""An acceptor promises nothing to a candidate this far behind: it must catch up first, so promises stay small."""

CATCH_UP_BYTES_MAX: Final = 1024 * 1024
"""One catch-up answer."""

SNAPSHOT_PIECE_BYTES_MAX: Final = 1024 * 1024
"""One piece of a snapshot, as stored and as sent."""

LOG_BYTES_KEPT_MAX: Final = 64 * 1024 * 1024
"""Decided commands kept in memory and on disk behind the last snapshot, for followers that lag a little."""

DECISIONS_BUFFERED_MAX: Final = 2 * ALPHA_MAX
"""Slots decided above a hole that a learner keeps. More are dropped and fetched again by catch-up."""

SESSION_WINDOW: Final = 1024
"""Requests of one client that may be unanswered, and whose outcomes are kept until the client acknowledges them. It
bounds the row of a session in a snapshot, which cannot be cut: about 100 KB with the bank's longest answers."""

SERIES_MAX: Final = 8190
"""Operations that one request may carry: two such requests fit the default window (`alpha`) together."""

REPLY_FRAME_BYTES_MAX: Final = 2 * 1024 * 1024
"""A frame to a client. The longest is the answer to a series: SERIES_MAX results of at most SERIES_RESULT_BYTES_MAX."""

SERIES_RESULT_BYTES_MAX: Final = 200
"""One result of an application that takes series: the bank's longest refusal has about 150 bytes."""

SESSIONS_PER_SHARD_MAX: Final = 128
"""With 1024 shards: about 130 000 sessions. The one that is silent for longest goes first; its client is refused."""

SHARDS: Final = 1024
"""Parts of a replicated table. A snapshot encodes one part at a time, so no part may take long (1 ms at 1 M rows)."""

PEER_BUFFER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes that wait for a peer that does not read. Beyond it messages to that peer are dropped, as if lost."""

CLIENT_BUFFER_BYTES_MAX: Final = 4 * 1024 * 1024
"""Answers that wait for a client that does not read. Beyond it the connection is closed."""

CLIENT_ANSWERS_BYTES_MAX: Final = CLIENT_BUFFER_BYTES_MAX // 2
"""With more of them, answers to reads are not added: those reads are refused as "overloaded" and come again. So a
client may ask for much at once (256 values of 64 KiB), and is not taken for one that does not read."""

CLIENT_CONNECTIONS_MAX: Final = 4096
"""Further connections are told so and closed."""

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""A connection that has not said who it is by then is closed."""

HANDSHAKE_BYTES_MAX: Final = 4096
"""The first frame of a connection. Nobody may make us keep more before we know who it is."""

HANDSHAKES_MAX: Final = 512
"""Connections that have not said who they are. Further ones are closed at once."""

LINGER_S: Final = 1.0
"""A connection that was told why it is closed gets this long to read it."""

SESSIONS_PER_CONNECTION_MAX: Final = 4096
"""Client sessions that share one connection. A request of a further one is a protocol error."""

REDIAL_MIN_S: Final = 0.02
"""The first redial after a loss is immediate; then the wait grows from this (with jitter) …"""

REDIAL_MAX_S: Final = 1.0
"""… to this. A peer that comes back is reached within a second."""

DIAL_TIMEOUT_S: Final = 2.0
"""A connection attempt without an answer by then is given up and repeated."""

PEER_SILENCE_S: Final = 3
"""Bytes to a peer that its kernel has not acknowledged for so long end the stream, so that a healed network is used by
a new one at once instead of after TCP's own back-off (up to two minutes)."""

CLIENT_SILENCE_S: Final = 60
"""The same towards clients: their machines may go away without a word, and must not occupy connections for hours."""

FAULT_RULES_MAX: Final = 100
"""Rules of the message-fault layer."""

FAULT_MESSAGES_HELD_MAX: Final = 100_000
"""Messages that the fault layer delays at one time. Beyond it they are dropped, as if lost."""

WRITES_QUEUED_BYTES_MAX: Final = 128 * 1024 * 1024
"""Records that wait for the disk. Beyond it the node stops voting and proposing until the disk has caught up."""

COMMIT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Writes that gather beyond this go into the next commit, so that the write-ahead file keeps its size."""

DISK_RESERVE_BYTES: Final = 32 * 1024 * 1024
"""With less free space the disk counts as full: what is needed to stop cleanly and to truncate still fits."""

TRUNCATE_ROWS: Final = 256
"""Old log rows that one commit deletes. More would make that commit take visibly longer."""

TRUNCATE_BYTES: Final = 1024 * 1024
"""The same in bytes; a row is at most RUN_BYTES_MAX, so a portion is less than twice this."""

PIECE_READS_MAX: Final = 64
"""Reads of snapshot pieces that wait for the disk. Further ones are answered "gone"; the peer asks again."""

BANK_AMOUNT_MAX: Final = 10**15
"""Largest amount of one transaction, in the smallest unit of the currency."""

BANK_BALANCE_MAX: Final = 2**62
"""Largest balance: it still fits a signed 64-bit integer in every tool that will ever read it."""

BANK_ACCOUNT_MAX: Final = 2**53 - 1
"""Largest account number: exact in JSON readers that know only doubles."""

KV_KEY_BYTES_MAX: Final = 512
"""A key, as UTF-8. Keys are looked at often, and stand in every page, log line and explanation."""

KV_VALUE_BYTES_MAX: Final = 64 * 1024
"""A value. Larger things belong into files, with their names in the store."""

KV_PAGE_KEYS_MAX: Final = 1000
"""Keys in one page of a list; the rest is asked for with further requests."""

KV_PAGE_BYTES_MAX: Final = 128 * 1024
"""Keys and values in one page (a single pair is let through whatever its size): what it looks like as JSON, up to six
times as long, still fits a line of a history."""

CHAT_ROOM_CHARACTERS_MAX: Final = 64
"""The name of a room."""

CHAT_AUTHOR_CHARACTERS_MAX: Final = 64
"""Who says it."""

CHAT_BODY_CHARACTERS_MAX: Final = 2000
"""What is said in one message: about a page of text. At most four times as many bytes."""

CHAT_ROOM_MESSAGES_MAX: Final = 1000
"""Messages that a room keeps. The oldest ones are forgotten; positions go on."""

CHAT_ROOM_BYTES_MAX: Final = 128 * 1024
"""The same in bytes (1000 messages of 80 bytes and what stands around them)."""

CHAT_ROOMS_PER_PLACE_MAX: Final = 8
"""Rooms in one of the SHARDS parts of the table, so that making a room touches nothing of other rooms' parts. Names
spread by a checksum: with 1000 rooms hardly any new name meets a full part. All rooms together stay below 1 GiB."""

CHAT_PAGE_MESSAGES_MAX: Final = 100
"""Messages in one answer to a request for history; the client asks again behind them."""

CHAT_PAGE_BYTES: Final = 32 * 1024
"""The same in bytes; at least one message goes into an answer, whatever its size."""

CHAT_ROOMS_LISTED_MAX: Final = 200
"""Rooms in one answer to a request for their list."""

AUCTION_NAME_CHARACTERS_MAX: Final = 64
"""The name of an auction."""

AUCTION_BIDDER_CHARACTERS_MAX: Final = 64
"""The name of a bidder."""

AUCTION_BID_MAX: Final = 10**15
"""Largest bid, in the smallest unit of the currency."""

AUCTION_DURATION_MS_MAX: Final = 366 * 24 * 3600 * 1000
"""Longest duration of an auction that closes by itself: a year."""

AUCTIONS_PER_PLACE_MAX: Final = 8
"""Auctions in one of the SHARDS parts of the table, as CHAT_ROOMS_PER_PLACE_MAX. Operators remove finished ones."""

AUCTION_EVENTS_MAX: Final = 200
"""Events (start, new highest bids, end) that an auction keeps for those who follow it."""

AUCTIONS_LISTED_MAX: Final = 200
"""Auctions in one answer to a request for their list."""

DUE_OPERATIONS_MAX: Final = 256
"""Operations whose time has come that a node proposes at once; the others follow 100 ms later."""

FEED_TOPIC_CHARACTERS_MAX: Final = 64
"""The name of a topic that clients follow: a room, an auction."""

FEEDS_PER_CONNECTION_MAX: Final = 64
"""Topics that one connection follows. One more is a protocol error."""

FEED_EVENTS_PER_FRAME_MAX: Final = 100
"""Events in one frame. A follower that is further behind gets the next frame when its connection takes more."""

FEED_BUFFER_BYTES: Final = 256 * 1024
"""With so much waiting for a client, it gets no more events until it has read: they are kept in the state anyway."""

ANSWERS_DELAYED_MAX: Final = 100_000
"""Answers that a node holds back for the configured delay (auctions). Beyond it they leave at once."""

SNAPSHOT_EVERY_MIN: Final = 100
"""Slots between two snapshots, at least: more often, and the node would do little else."""

SNAPSHOT_EVERY_MAX: Final = 10_000_000
"""Slots between two snapshots, at most: a restart applies them again, which must stay a matter of seconds."""

SESSION_EXPIRY_MAX: Final = 10**15
"""Slots of silence after which a session goes. Larger numbers mean "never"."""

CONFIG_BYTES_MAX: Final = 256 * 1024
"""A cluster configuration has a few hundred bytes a node."""

SECRET_BYTES_MAX: Final = 256
"""As long as a credential in the handshake may be."""

SECRET_BYTES_MIN: Final = 16
"""Shorter ones can be guessed."""

HTTP_BODY_BYTES_MAX: Final = 64 * 1024
"""An admin call's JSON. A longer body is answered with 413 and its connection is closed."""

HTTP_CONNECTIONS_MAX: Final = 64
"""A Prometheus, a few people, a health check. Further connections are closed at once."""

EPAXOS_OPEN_MAX: Final = 1024
"""Instances that a replica of EPaxos may have begun and not executed. What comes meanwhile waits, in larger batches."""

EPAXOS_OPEN_PER_KEY: Final = 8
"""The same of instances that write one key: it bounds how long chains of dependencies and components grow. Enough for a
new one every few milliseconds in a network with round trips of tens of them."""

EPAXOS_KEYS_MAX: Final = 500_000
"""Keys in the conflict index, some 300 bytes each. More can only come together while a replica is away for long. Then
those that are executed here are forgotten, and recoveries that ask about them are left to others."""

EPAXOS_LOOK_AT_MAX: Final = 512
"""Uncommitted instances of a column that are looked at each time for being overdue: the oldest count."""

EPAXOS_ASK_RANGES_MAX: Final = 256
"""Ranges of slots in one Ask."""

HAPPENINGS_KEPT: Final = 256
"""Leadership events that a node remembers for /events: a failover has about ten. The oldest are forgotten."""

LOG_TEXT_CHARACTERS_MAX: Final = 16_384
"""One log message, tracebacks included. The rest is cut off."""

LOG_KEYS_MAX: Final = 1024
"""Different messages whose repetitions are counted. The one that is silent for longest is forgotten first."""

assert COMMAND_BYTES_MAX < CLIENT_FRAME_BYTES_MAX
assert (
    SERIES_MAX * SERIES_RESULT_BYTES_MAX + HANDSHAKE_BYTES_MAX < REPLY_FRAME_BYTES_MAX <= 2 * SNAPSHOT_PIECE_BYTES_MAX
)
assert 2 * SERIES_MAX < ALPHA_MAX
assert SERIES_MAX * 8 < PROPOSALS_MAX
assert COMMAND_BYTES_MAX <= RUN_BYTES_MAX
assert RUN_BYTES_MAX < WINDOW_BYTES_MAX
assert WINDOW_BYTES_MAX + RUN_BYTES_MAX + 2 * CATCH_UP_BYTES_MAX < FRAME_BYTES_MAX
assert NODE_ID_MAX < ROUND_STRIDE
assert COMMIT_BYTES_MAX < WRITES_QUEUED_BYTES_MAX
assert COMMIT_BYTES_MAX < DISK_RESERVE_BYTES
assert HANDSHAKE_BYTES_MAX < CLIENT_FRAME_BYTES_MAX < CLIENT_BUFFER_BYTES_MAX
assert FRAME_BYTES_MAX < PEER_BUFFER_BYTES_MAX
assert REDIAL_MIN_S < REDIAL_MAX_S
assert BANK_AMOUNT_MAX < BANK_BALANCE_MAX
assert 2 * KV_VALUE_BYTES_MAX + KV_KEY_BYTES_MAX < COMMAND_BYTES_MAX
assert KV_KEY_BYTES_MAX + KV_VALUE_BYTES_MAX <= KV_PAGE_BYTES_MAX
assert 6 * KV_PAGE_BYTES_MAX < CLIENT_FRAME_BYTES_MAX
assert 4 * CHAT_BODY_CHARACTERS_MAX < CHAT_PAGE_BYTES < CHAT_ROOM_BYTES_MAX
assert max(CHAT_ROOM_CHARACTERS_MAX, AUCTION_NAME_CHARACTERS_MAX) <= FEED_TOPIC_CHARACTERS_MAX
assert FEED_EVENTS_PER_FRAME_MAX * 4 * (CHAT_BODY_CHARACTERS_MAX + 100) < CLIENT_FRAME_BYTES_MAX
assert FEED_BUFFER_BYTES + CLIENT_FRAME_BYTES_MAX < CLIENT_BUFFER_BYTES_MAX
assert SNAPSHOT_EVERY_MIN < SNAPSHOT_EVERY_MAX
assert SECRET_BYTES_MIN < SECRET_BYTES_MAX
