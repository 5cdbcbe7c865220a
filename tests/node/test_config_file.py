"""cluster.yml: what is wrong is said with file, line and key, all of it at once; what is right means what it says."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from paxos_twisted.core.multipaxos.settings import Settings
from paxos_twisted.limits import ALPHA_MAX, CONFIG_BYTES_MAX, SESSION_WINDOW
from paxos_twisted.node import driver
from paxos_twisted.node.cluster_file import (
    ClusterFile,
    DetectorSection,
    EPaxosSection,
    NodeSection,
    PrimaryBackupSection,
    TimeoutsSection,
)
from paxos_twisted.node.config import Config, ConfigError, load, make_config, parse
from paxos_twisted.node.config_checks import TIME_MS_MIN
from paxos_twisted.node.quantities import Address
from paxos_twisted.node.secret import new_secret, read_secret

ROOT = Path(__file__).resolve().parents[2]

HEAD = "cluster: demo\napplication: bank\n"
ONE = "nodes: [{id: 1, address: '127.0.0.1:7101', http: '127.0.0.1:7201', data_dir: data/1}]\n"


def nodes(*lines: str) -> str:
    return HEAD + "nodes:\n" + "".join(f"  - {{{line}}}\n" for line in lines)


def problems(text: str, name: str = "cluster.yml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, name)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


# What is wrong, and what exactly is said about it. %s stands for the folder of the file.
WRONG = [
    # the text
    ("an empty file", "", "cluster.yml: the file is empty; docs/configuration.md shows an example"),
    ("only a comment", "# later\n", "cluster.yml: the file is empty; docs/configuration.md shows an example"),
    ("a list instead of keys", "- 1\n- 2\n", "cluster.yml:1: [1, 2] is not a section with keys"),
    (
        "an unclosed bracket",
        "cluster: demo\nnodes: [{id: 1\n",
        "cluster.yml:3: while parsing a flow mapping, expected ',' or '}', but got '<stream end>' (column 1)",
    ),
    (
        "a tab as indentation",
        "cluster: demo\nnodes:\n\t- 1\n",
        r"cluster.yml:3: while scanning for the next token, found character '\t' that cannot start any token",
    ),
    (
        "the same key twice",
        HEAD + "alpha: 1\n" + ONE + "alpha: 2\n",
        'cluster.yml:5: the key "alpha" stands here for the second time',
    ),
    (
        "an alias",
        "cluster: &a demo\napplication: *a\n",
        "cluster.yml:2: an alias (*name) is not allowed here (column 14)",
    ),
    (
        "a tag",
        "cluster: !!python/name:os.system x\n",
        'cluster.yml:1: the tag "tag:yaml.org,2002:python/name:os.system',
    ),
    ("two documents", HEAD + ONE + "---\n" + HEAD, "cluster.yml:4: expected a single document in the stream"),
    ("a control character", "cluster: de\x01mo\n", "cluster.yml:1: a character that does not belong into text"),
    ("very deep nesting", "[" * 40 + "]" * 40, "cluster.yml:1: nested more than 16 levels deep"),
    ("endless nesting", "[" * 20_000, "cluster.yml:1: nested more than 16 levels deep"),
    # keys
    ("an unknown key", HEAD + ONE + "aplha: 3\n", 'cluster.yml:4: aplha: there is no such key; did you mean "alpha"?'),
    (
        "an unknown key like no other",
        HEAD + ONE + "detector: {colour: red}\n",
        "cluster.yml:4: detector.colour: there is no such key; it can be policy, heartbeat, delay, delta",
    ),
    (
        "an unknown key of a node",
        nodes("id: 1, adress: 'h:1', address: 'h:1', data_dir: d"),
        'cluster.yml:4: nodes[0].adress: there is no such key; did you mean "address"?',
    ),
    ("a key that is no word", HEAD + ONE + "? [a]\n: b\n", "cluster.yml:4: a key must be a word"),
    ("a missing key", "cluster: demo\n" + ONE, "cluster.yml:1: application: this key is missing"),
    (
        "a missing key of a node",
        nodes("id: 1, address: 'h:1'"),
        "cluster.yml:4: nodes[0].data_dir: this key is missing",
    ),
    (
        "a key without a value",
        HEAD + ONE + "alpha:\n",
        "cluster.yml:4: alpha: nothing stands behind this key; write a value or remove the key",
    ),
    (
        "a section that is none",
        HEAD + ONE + "timeouts: 3s\n",
        'cluster.yml:4: timeouts: "3s" is not a section with keys',
    ),
    (
        "a node that is none",
        HEAD + "nodes:\n  - two\n",
        'cluster.yml:4: nodes[0]: "two" is not a section with keys',
    ),
    # values
    (
        "a cluster name with a slash",
        HEAD.replace("demo", "a/b") + ONE,
        "cluster.yml:1: cluster: \"a/b\" is not a name; use letters, digits, '.', '_' and '-' "
        "(63 at most, a letter or digit first)",
    ),
    ("a cluster name of spaces", HEAD.replace("demo", "'  '") + ONE, "cluster.yml:1: cluster: the text is empty"),
    (
        "a cluster name that is a number",
        HEAD.replace("demo", "5") + ONE,
        'cluster.yml:1: cluster: 5 is not text; write it in quotes: "5"',
    ),
    (
        "an unknown engine",
        HEAD + ONE + "engine: multi-paxos\n",
        'cluster.yml:4: engine: "multi-paxos" is not known; did you mean "multipaxos"?',
    ),
    (
        "an unknown application",
        HEAD.replace("bank", "shop") + ONE,
        'cluster.yml:2: application: "shop" is not known; it can be bank',
    ),
    (
        "an unknown profile",
        HEAD + ONE + "profile: fast\n",
        'cluster.yml:4: profile: "fast" is not known; it can be default, lab',
    ),
    (
        "an unknown policy",
        HEAD + ONE + "detector: {policy: stiky}\n",
        'cluster.yml:4: detector.policy: "stiky" is not known; did you mean "sticky"?',
    ),
    ("alpha 0", HEAD + ONE + "alpha: 0\n", f"cluster.yml:4: alpha: 0 is not in 1..{ALPHA_MAX}"),
    ("alpha too large", HEAD + ONE + "alpha: 70000\n", f"cluster.yml:4: alpha: 70000 is not in 1..{ALPHA_MAX}"),
    ("alpha as text", HEAD + ONE + "alpha: many\n", 'cluster.yml:4: alpha: "many" is not a whole number'),
    ("alpha as a truth", HEAD + ONE + "alpha: true\n", "cluster.yml:4: alpha: true is not a whole number"),
    ("alpha with a fraction", HEAD + ONE + "alpha: 1.5\n", "cluster.yml:4: alpha: 1.5 is not a whole number"),
    (
        "snapshots too often",
        HEAD + ONE + "snapshot_every: 10\n",
        "cluster.yml:4: snapshot_every: 10 is not in 100..10000000",
    ),
    (
        "sessions that expire too soon",
        HEAD + ONE + "session_expiry: 1000\n",
        "cluster.yml:4: session_expiry: 1000 is too short: a session must outlive the requests it may have open; the "
        f"least is {SESSION_WINDOW + Settings().alpha} (the session window + alpha)",
    ),
    # durations
    (
        "a duration without a unit",
        HEAD + ONE + "detector: {delay: 800}\n",
        'cluster.yml:4: detector.delay: "800" has no unit; write 800ms, 800s or 800m',
    ),
    (
        "a duration in another unit",
        HEAD + ONE + "detector: {delay: 1 hour}\n",
        'cluster.yml:4: detector.delay: "1 hour" is not a duration; write a number and a unit, e.g. 250ms, 2s, 1m',
    ),
    (
        "a negative duration",
        HEAD + ONE + "timeouts: {phase1: -1s}\n",
        'cluster.yml:4: timeouts.phase1: "-1s" is not a duration; write a number and a unit, e.g. 250ms, 2s, 1m',
    ),
    (
        "half a millisecond",
        HEAD + ONE + "timeouts: {phase2: 20.5ms}\n",
        'cluster.yml:4: timeouts.phase2: "20.5ms" is not a whole number of milliseconds',
    ),
    (
        "a week",
        HEAD + ONE + "timeouts: {catch_up: 10080m}\n",
        'cluster.yml:4: timeouts.catch_up: "10080m" is too long; the most is 60m',
    ),
    (
        "a time shorter than a tick",
        HEAD + ONE + "timeouts: {disk_slow: 5ms}\n",
        "cluster.yml:4: timeouts.disk_slow: 5ms is too short; the least is 20ms, a tick of the engine",
    ),
    (
        "a delay shorter than three heartbeats",
        HEAD + ONE + "detector:\n  heartbeat: 300ms\n",
        "cluster.yml:4: detector.delay: 800ms is too short for a heartbeat of 300ms; the least is 900ms (3 heartbeats)",
    ),
    # nodes
    (
        "no nodes",
        HEAD + "nodes: []\n",
        "cluster.yml:3: nodes: there are no nodes; write 1, 3, 5, 7 or 9 of them (2F+1 nodes survive F failures)",
    ),
    ("nodes that are no list", HEAD + "nodes: {id: 1}\n", 'cluster.yml:3: nodes: {"id": 1} is not a list'),
    (
        "an even number of nodes",
        nodes("id: 1, address: 'h:1', data_dir: a", "id: 2, address: 'h:2', data_dir: b"),
        "cluster.yml:3: nodes: 2 nodes survive no more failures than 1; write 1 or 3 of them "
        "(2F+1 nodes survive F failures)",
    ),
    (
        "eleven nodes",
        nodes(*(f"id: {i}, address: 'h:{i}', data_dir: d{i}" for i in range(1, 12))),
        "cluster.yml:3: nodes: 11 nodes are too many; the most is 9",
    ),
    ("node 0", nodes("id: 0, address: 'h:1', data_dir: a"), "cluster.yml:4: nodes[0].id: 0 is not in 1..999"),
    (
        "one id for two nodes",
        nodes(*(f"id: {i}, address: 'h:{n}', data_dir: d{n}" for n, i in ((1, 1), (2, 2), (3, 2)))),
        "cluster.yml:6: nodes[2].id: 2 is the id of nodes[1] too",
    ),
    (
        "one address for two nodes",
        nodes(*(f"id: {i}, address: '{h}:1', data_dir: d{i}" for i, h in ((1, "a"), (2, "b"), (3, "A")))),
        'cluster.yml:6: nodes[2].address: "A:1" is used by nodes[0].address too',
    ),
    (
        "one address for peers and HTTP",
        nodes("id: 1, address: 'localhost:1', http: '127.0.0.1:1', data_dir: a"),
        'cluster.yml:4: nodes[0].http: "127.0.0.1:1" is used by nodes[0].address too',
    ),
    (
        "one directory for two nodes of a machine",
        nodes(*(f"id: {i}, address: 'h:{i}', data_dir: {d}" for i, d in ((1, "a"), (2, "b"), (3, "./x/../a")))),
        "cluster.yml:6: nodes[2].data_dir: %s/a is the directory of nodes[0] too",
    ),
    # addresses
    (
        "an address without a port",
        nodes("id: 1, address: localhost, data_dir: a"),
        'cluster.yml:4: nodes[0].address: "localhost" has no port; write host:port',
    ),
    (
        "an address without a host",
        nodes("id: 1, address: ':7101', data_dir: a"),
        'cluster.yml:4: nodes[0].address: ":7101" has no host; write host:port',
    ),
    (
        "a number as an address",
        nodes("id: 1, address: 7101, data_dir: a"),
        "cluster.yml:4: nodes[0].address: 7101 is not an address; write host:port",
    ),
    (
        "port 0",
        nodes("id: 1, address: 'h:0', data_dir: a"),
        'cluster.yml:4: nodes[0].address: "h:0": port 0 is not in 1..65535',
    ),
    (
        "port 70000",
        nodes("id: 1, address: 'h:70000', data_dir: a"),
        'cluster.yml:4: nodes[0].address: "h:70000": port 70000 is not in 1..65535',
    ),
    (
        "a port that is a word",
        nodes("id: 1, address: 'h:http', data_dir: a"),
        'cluster.yml:4: nodes[0].address: "h:http": "http" is not a port number',
    ),
    (
        "an IPv4 address out of range",
        nodes("id: 1, address: '127.0.0.256:1', data_dir: a"),
        'cluster.yml:4: nodes[0].address: "127.0.0.256:1": "127.0.0.256" is neither a host name nor an IP address',
    ),
    (
        "a host name with a space",
        nodes("id: 1, address: 'my host:1', data_dir: a"),
        'cluster.yml:4: nodes[0].address: "my host:1": "my host" is neither a host name nor an IP address',
    ),
    (
        "an IPv6 address without brackets",
        nodes("id: 1, address: '::1:7101', data_dir: a"),
        'cluster.yml:4: nodes[0].address: "::1:7101" has several colons; write host:port, or [address]:port for IPv6',
    ),
    (
        "nonsense in brackets",
        nodes("id: 1, address: '[h]:7101', data_dir: a"),
        'cluster.yml:4: nodes[0].address: "[h]:7101" is not an IPv6 address in brackets; write [address]:port',
    ),
    (
        "a wildcard as the address to connect to",
        nodes("id: 1, address: '0.0.0.0:7101', data_dir: a"),
        'cluster.yml:4: nodes[0].address: "0.0.0.0:7101" is no address to connect to; write the one that the other '
        "nodes and clients use (--listen can listen on all)",
    ),
    # the secret
    (
        "a secret file that does not exist",
        HEAD + ONE + "secret_file: nothing\n",
        "cluster.yml:4: secret_file: %s/nothing does not exist; make one: "
        "(umask 077; openssl rand -hex 32 > %s/nothing)",
    ),
]


@pytest.mark.parametrize(("text", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_wrong_configuration_is_named_exactly(folder: Path, text: str, said: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert found[0].startswith(said.replace("%s", str(folder)))


def test_all_problems_are_reported_together_in_the_order_of_lines(folder: Path) -> None:
    text = """\
cluster: 12
alfa: 3
detector: {delay: 800, heartbeet: 3ms}
nodes:
 - {id: 1, address: localhost, data_dir: x}
 - {id: 1, address: localhost:7000, data_dir: x}
 - {id: 1, address: 127.0.0.1:7000, data_dir: x}
 - 7
"""
    assert problems(text) == [
        'cluster.yml:1: cluster: 12 is not text; write it in quotes: "12"',
        "cluster.yml:1: application: this key is missing",
        'cluster.yml:2: alfa: there is no such key; did you mean "alpha"?',
        'cluster.yml:3: detector.heartbeet: there is no such key; did you mean "heartbeat"?',
        'cluster.yml:3: detector.delay: "800" has no unit; write 800ms, 800s or 800m',
        "cluster.yml:4: nodes: 4 nodes survive no more failures than 3; write 3 or 5 of them "
        "(2F+1 nodes survive F failures)",
        'cluster.yml:5: nodes[0].address: "localhost" has no port; write host:port',
        "cluster.yml:7: nodes[2].id: 1 is the id of nodes[1] too",
        'cluster.yml:7: nodes[2].address: "127.0.0.1:7000" is used by nodes[1].address too',
        f"cluster.yml:7: nodes[2].data_dir: {folder}/x is the directory of nodes[1] too",
        "cluster.yml:8: nodes[3]: 7 is not a section with keys",
    ]


# What is right


def test_defaults_are_those_of_the_engine() -> None:
    config = parse(HEAD + ONE)
    assert config.settings == Settings()
    assert (config.shared.engine, config.shared.application, config.profile) == ("multipaxos", "bank", "default")


def test_every_value_arrives() -> None:
    config = parse(
        HEAD
        + ONE
        + """\
alpha: 64
detector: {policy: lab, heartbeat: 50ms, delay: 0.5s, delta: 1s}
timeouts: {phase1: 1m, phase2: 30ms, catch_up: 40ms, disk_slow: 1500 ms}
snapshot_every: 1_000
session_expiry: 123456
"""
    )
    assert config.settings == Settings(
        alpha=64, policy="lab", heartbeat_ms=50, delay_ms=500, delta_ms=1000,
        phase1_ms=60_000, phase2_ms=30, catch_up_ms=40, disk_slow_ms=1500,
    )  # fmt: skip
    assert (config.shared.snapshot_every, config.shared.session_expiry) == (1000, 123_456)
    (node,) = config.nodes
    assert (node.address, node.listen, node.http) == (
        Address("127.0.0.1", 7101),
        Address("127.0.0.1", 7101),
        Address("127.0.0.1", 7201),
    )


@pytest.mark.parametrize(
    ("more", "alpha", "policy"),
    [
        pytest.param("", 16_384, "sticky", id="default profile"),
        pytest.param("profile: lab\n", 1, "lab", id="lab profile"),
        pytest.param("profile: lab\nalpha: 8\n", 8, "lab", id="lab profile with its own alpha"),
        pytest.param("profile: lab\ndetector: {policy: sticky}\n", 1, "sticky", id="lab profile with its own policy"),
    ],
)
def test_profile_gives_what_the_file_does_not_say(more: str, alpha: int, policy: str) -> None:
    settings = parse(HEAD + ONE + more).settings
    assert (settings.alpha, settings.policy) == (alpha, policy)


def test_data_dirs_start_at_the_file_and_http_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yml"
    path.write_text(nodes("id: 7, address: '[::1]:7101', data_dir: data/7"))
    (node,) = load(path).nodes
    assert (node.data_dir, node.http, str(node.address)) == (tmp_path / "data/7", None, "[::1]:7101")


def test_nodes_are_sorted_by_id() -> None:
    config = parse(nodes(*(f"id: {i}, address: 'h:{i}', data_dir: d{i}" for i in (3, 1, 2))))
    assert config.members == (1, 2, 3)
    assert config.addresses == {1: "h:1", 2: "h:2", 3: "h:3"}


def test_two_machines_may_use_the_same_path() -> None:
    config = parse(nodes(*(f"id: {i}, address: 'host{i}:7100', data_dir: /var/lib/paxosnode" for i in (1, 2, 3))))
    assert len(config.nodes) == 3


def test_loopback_among_other_addresses_is_a_warning() -> None:
    config = parse(
        nodes(*(f"id: {i}, address: '{h}:1', data_dir: d" for i, h in ((1, "localhost"), (2, "b"), (3, "c"))))
    )
    assert config.warnings == (
        'cluster.yml:4: nodes[0].address: "localhost:1" can be reached from its own machine only',
    )


def test_words_that_other_readers_take_for_truths_or_numbers_stay_words() -> None:
    assert parse(HEAD.replace("demo", "on") + ONE).shared.cluster == "on"
    assert parse(HEAD + ONE + "alpha: 010\n").settings.alpha == 10


# Digest


def base(**changes: str) -> str:
    lines = {"cluster": "demo", "application": "bank", "alpha": "8", "snapshot_every": "1000", **changes}
    text = "".join(f"{key}: {value}\n" for key, value in lines.items() if key not in ("http", "data_dir", "address"))
    line = f"address: '{changes.get('address', 'h:1')}', data_dir: {changes.get('data_dir', 'd')}"
    return text + "nodes: [{id: 1, " + line + (f", http: '{changes['http']}'" if "http" in changes else "") + "}]\n"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"cluster": "other"}, id="cluster"),
        pytest.param({"alpha": "9"}, id="alpha [scenario 37]"),
        pytest.param({"detector": "{delay: 900ms}"}, id="delay"),
        pytest.param({"detector": "{policy: lab}"}, id="policy"),
        pytest.param({"timeouts": "{phase1: 900ms}"}, id="timeout"),
        pytest.param({"snapshot_every": "2000"}, id="snapshots"),
        pytest.param({"session_expiry": "20000000"}, id="session expiry"),
        pytest.param({"address": "h:2"}, id="address of a member"),
    ],
)
def test_digest_differs_when_shared_values_differ(changes: dict[str, str]) -> None:
    assert parse(base(**changes)).shared.digest() != parse(base()).shared.digest()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"http": "h:9"}, id="http"),
        pytest.param({"data_dir": "elsewhere"}, id="data_dir"),
        pytest.param({"detector": "{delay: 800ms, policy: sticky}"}, id="a default written out"),
        pytest.param({"profile": "default"}, id="the profile by name"),
    ],
)
def test_digest_is_equal_when_only_the_node_or_the_spelling_differs(changes: dict[str, str]) -> None:
    assert parse(base(**changes)).shared.digest() == parse(base()).shared.digest()


def test_digest_is_32_hexadecimal_digits_and_fits_the_handshake() -> None:
    assert re.fullmatch("[0-9a-f]{32}", parse(base()).shared.digest())


# One node


def test_command_line_values_replace_those_of_one_node_only(folder: Path) -> None:
    config = parse(make_config(1))
    changed = config.with_node(2, data_dir=Path("x"), listen=Address("0.0.0.0", 9), http=Address("127.0.0.1", 8))
    node = changed.node(2)
    assert (node.listen, node.http, node.data_dir) == (Address("0.0.0.0", 9), Address("127.0.0.1", 8), folder / "x")
    assert node.address == config.node(2).address
    assert (changed.node(1), changed.node(3), changed.shared) == (config.node(1), config.node(3), config.shared)


def test_unknown_node_is_named() -> None:
    with pytest.raises(ConfigError, match=re.escape("cluster.yml: nodes: there is no node 4; the file has 1, 2, 3")):
        parse(make_config(1)).node(4)


def check(folder: Path) -> str:
    config = parse(nodes("id: 1, address: 'h:1', data_dir: data/1"), str(folder / "cluster.yml"))
    try:
        config.check_node(1)
    except ConfigError as error:
        return str(error).replace(str(folder), "…")
    return ""


def test_directory_above_the_data_must_exist(tmp_path: Path) -> None:
    where = "…/cluster.yml: data_dir of node 1 (nodes[0]): "
    assert check(tmp_path) == where + "the directory …/data does not exist; type: mkdir -p …/data"
    (tmp_path / "data").mkdir()
    assert check(tmp_path) == ""
    (tmp_path / "data/1").mkdir()
    assert check(tmp_path) == ""
    (tmp_path / "data/1").rmdir()
    (tmp_path / "data/1").write_text("")
    assert check(tmp_path) == where + "…/data/1 is not a directory"


# Files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "cannot be read: No such file or directory", id="a file that does not exist"),
        pytest.param(b"cluster: demo\nnodes: \xff\n", "2: not UTF-8 text", id="bytes that are no text"),
        pytest.param(b"#" * (CONFIG_BYTES_MAX + 1), "longer than 262144 bytes", id="a file of another kind"),
    ],
)
def test_unreadable_file_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "cluster.yml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:")
    assert said in str(caught.value)


def test_directory_instead_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}: cannot be read: Is a directory"):
        load(tmp_path)


# The secret


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        pytest.param(new_secret(), 0o604, "is open to others (mode 0604); type: chmod 600 ", id="readable by all"),
        pytest.param(new_secret(), 0o620, "is open to others (mode 0620); type: chmod ", id="writable by the group"),
        pytest.param("short", 0o600, "must hold one line of 16 to 256 letters, digits or signs", id="too short"),
        pytest.param("x" * 257, 0o600, "must hold one line of 16 to 256 letters, digits or signs", id="too long"),
        pytest.param("", 0o600, "must hold one line of 16 to 256 letters, digits or signs", id="empty"),
        pytest.param("two\nlines of text\n", 0o600, "must hold one line of 16 to 256", id="two lines"),
    ],
)
def test_unusable_secret_is_named(tmp_path: Path, content: str, mode: int, said: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(content)
    secret.chmod(mode)
    (found,) = problems(HEAD + ONE + "secret_file: secret\n", str(tmp_path / "cluster.yml"))
    assert found.startswith(f"{tmp_path}/cluster.yml:4: secret_file: {secret} {said}")
    assert content == "" or content.strip() not in found


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_is_read_kept_out_of_sight_and_compared(tmp_path: Path, end: str) -> None:
    text = new_secret()
    (tmp_path / "secret").write_bytes((text + end).encode())
    (tmp_path / "secret").chmod(0o600)
    config = parse(HEAD + ONE + "secret_file: secret\n", str(tmp_path / "cluster.yml"))
    secret = config.secret
    assert secret is not None
    assert secret.reveal() == text
    assert secret.matches(text)
    assert secret.matches(text.encode())
    assert not secret.matches(text[:-1])
    assert not secret.matches("ü" * 20)
    assert text not in repr(config)
    assert text not in config.effective()


def test_secret_that_the_group_may_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(new_secret())
    (tmp_path / "secret").chmod(0o640)
    config = parse(HEAD + ONE + "secret_file: secret\n", str(tmp_path / "cluster.yml"))
    assert config.warnings == (
        f"{tmp_path}/cluster.yml:4: secret_file: the group may read {tmp_path}/secret (mode 0640); chmod 600 is safer",
    )


def test_secret_that_is_no_file_is_refused() -> None:
    with pytest.raises(ValueError, match="/dev/zero is not a file"):
        read_secret(Path("/dev/zero"))


# Text


@pytest.mark.parametrize("f", range(5))
def test_made_configuration_is_usable_and_has_2f_plus_1_nodes(f: int) -> None:
    config = parse(make_config(f, 7100, "/data", secret_file=None, profile="lab", more="alpha: 4\n"))
    assert config.members == tuple(range(1, 2 * f + 2))
    assert config.settings.alpha == 4
    assert str(config.node(1).address) == "127.0.0.1:7101"
    assert str(config.node(1).http) == "127.0.0.1:7201"
    assert config.node(1).data_dir == Path("/data/1")


def test_made_configuration_uses_the_ports_it_is_given(folder: Path) -> None:
    config = parse(make_config(1, directory="my data", ports=[(5001, 6001), (5009, 6002), (5003, 6003)]))
    assert str(config.node(2).address) == "127.0.0.1:5009"
    assert config.node(2).data_dir == folder / "my data/2"


@pytest.mark.parametrize(
    "arguments", [pytest.param({"f": 5}, id="too many failures"), pytest.param({"f": 1, "ports": [(1, 2)]}, id="ports")]
)
def test_impossible_configuration_is_not_made(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"f must be in|pairs of ports"):
        make_config(**arguments)  # type: ignore[arg-type]


def test_effective_configuration_reads_back_to_the_same() -> None:
    config = parse(make_config(1, directory="it's: #odd", more="detector: {delay: 61s, delta: 1250ms}\n"))
    again = parse(config.effective(1), "/elsewhere/cluster.yml")
    assert (again.shared, again.nodes, again.profile) == (config.shared, config.nodes, config.profile)
    assert config.shared.digest() in config.effective()


def every_key() -> Iterator[str]:
    for section in (ClusterFile, DetectorSection, TimeoutsSection, EPaxosSection, PrimaryBackupSection, NodeSection):
        yield from section.__struct_fields__


def test_effective_configuration_shows_every_key(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(new_secret())
    (tmp_path / "secret").chmod(0o600)
    config = parse(make_config(1, secret_file="secret"), str(tmp_path / "cluster.yml"))
    shown = config.effective()
    assert [key for key in every_key() if f"{key}: " not in shown and f"{key}:\n" not in shown] == []


def test_documentation_explains_every_key_with_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `([a-z_.\[\]0-9]+)` \|.*$", page, re.MULTILINE)}
    settings = {
        "detector.heartbeat": "100ms", "detector.delay": "800ms", "detector.delta": "200ms", "timeouts.phase1": "250ms",
        "timeouts.phase2": "250ms", "timeouts.catch_up": "100ms", "timeouts.disk_slow": "1s", "alpha": "16384",
        "snapshot_every": "100000", "session_expiry": "10000000", "detector.policy": "sticky", "engine": "multipaxos",
        "primary_backup.mode": "safe", "epaxos.thrifty": "true", "epaxos.answer": "250ms", "epaxos.recover": "1s",
        "epaxos.hold": "1s",
    }  # fmt: skip
    wanted = {"cluster", "application", "profile", "secret_file", "nodes", *settings}
    wanted |= {f"nodes[].{key}" for key in NodeSection.__struct_fields__}
    assert set(rows) == wanted
    assert {key.split(".")[-1] for key in wanted} == set(every_key()) - {
        "detector",
        "timeouts",
        "primary_backup",
        "epaxos",
    }
    assert [key for key, default in settings.items() if f"`{default}`" not in rows[key]] == []
    effective = parse(HEAD + ONE).effective()
    assert [key for key, default in settings.items() if f"{key.split('.')[-1]}: {default}" not in effective] == []


def test_example_of_the_documentation_is_usable() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        assert len(parse(block.replace("secret_file: secret", "")).nodes) == 3


def test_shortest_time_is_a_tick() -> None:
    assert TIME_MS_MIN == driver.TICK_MS


# Fuzz: whatever the file holds, the answer is a configuration or a list of problems


def outcome(text: str) -> Config | None:
    try:
        return parse(text, "cluster.yml")
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.startswith("cluster.yml:")
            assert "\n" not in problem
        return None


GOOD = make_config(1, more="alpha: 8\ndetector: {delay: 1s}\n")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(
        ["800ms", "h:1", "1s", "bank", "lab", "multipaxos", "[::1]:1", "::", "~", "=", "<<", "0x", "1e400"]
    )
)
keys = st.sampled_from(sorted({*every_key(), "<<", "=", "", "0"})) | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6))


@pytest.mark.fuzz
@given(values)
def test_any_yaml_value_gives_a_configuration_or_problems(value: object) -> None:
    outcome(yaml.dump(value))


@given(st.text())
@example("!!timestamp 2001-99-99")
@example("!!int x")
@example("!!bool maybe")
@example("!!float x")
@example("!!map [a]")
@example("!!seq {a: b}")
@example("--- &a [*a]")
@example('"\\UFFFFFFFF"')
@example("%YAML 9.9\n---\na")
@example("? ? ? a")
@example("a: !<\x00>")
@example("9" * 5000)
@example("nodes: [[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]")
def test_any_text_gives_a_configuration_or_problems(text: str) -> None:
    outcome(text)


@pytest.mark.fuzz
@given(st.data())
def test_any_damage_to_a_good_file_gives_a_configuration_or_problems(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 12))
        filling = data.draw(st.text(max_size=6) | st.sampled_from(["{", "[", "&a ", "*a", "!!int ", "- ", "|\n", "\t"]))
        text = text[:start] + filling + text[end:]
    outcome(text)


@pytest.mark.fuzz
@given(st.data())
def test_any_other_value_of_a_key_gives_a_configuration_or_problems(data: st.DataObject) -> None:
    file = yaml.safe_load(GOOD)
    place = data.draw(st.sampled_from([file, file["detector"], *file["nodes"]]))
    place[data.draw(keys)] = data.draw(values)
    config = outcome(yaml.dump(file))
    if config is not None:
        assert parse(config.effective()).shared == config.shared


@pytest.mark.fuzz
@given(st.binary())
def test_any_bytes_give_a_configuration_or_problems(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz-{os.getpid()}.yml"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        load(path)


def test_epaxos_is_told_its_own_settings_and_refuses_those_of_leaders() -> None:
    config = parse(HEAD + "engine: epaxos\nepaxos: {thrifty: false, recover: 2s}\n" + ONE)
    assert (config.settings.thrifty, config.settings.recover_ms, config.settings.policy) == (False, 2000, "leaderless")
    assert parse(config.effective()).shared == config.shared
    for lines, key in (
        ("engine: epaxos\nalpha: 3\n", "alpha"),
        ("engine: epaxos\ndetector: {policy: sticky}\n", "detector.policy"),
        ("engine: epaxos\nprofile: lab\n", "profile"),
        ("engine: epaxos\nepaxos: {recover: 100ms}\n", "epaxos.recover"),
        ("engine: epaxos\nepaxos: {hold: 1ms}\n", "epaxos.hold"),
        ("engine: epaxos\nepaxos: {thrifty: maybe}\n", "epaxos.thrifty"),
        ("epaxos: {thrifty: false}\n", "epaxos"),
    ):
        with pytest.raises(ConfigError) as raised:
            parse(HEAD + lines + ONE)
        assert len(raised.value.problems) == 1
        assert f": {key}: " in raised.value.problems[0]
