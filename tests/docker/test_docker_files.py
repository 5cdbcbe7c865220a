"""The files of the image and of the cluster in containers: what can be said of them without building anything."""

import importlib.util
import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from paxos_twisted.node.config import load
from paxos_twisted.storage.errors import StoreNotEmpty
from prometheus.targets import targets

DOCKER = Path(__file__).parents[2] / "docker"
IMAGE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
NODES = ("node1", "node2", "node3")


def filled(text: str) -> str:
    """With the default of every ${NAME:-default}."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load(filled((DOCKER / "compose.yml").read_text(encoding="utf-8")))


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """docker/prepare.py with folders of its own."""
    for name in ("etc", "data/1", "data/2", "data/3"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("PAXOS_ETC", str(tmp_path / "etc"))
    monkeypatch.setenv("PAXOS_DATA", str(tmp_path / "data"))
    spec = importlib.util.spec_from_file_location("docker_prepare", DOCKER / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_image_ends_with_a_plain_user_a_health_check_and_the_node() -> None:
    """[conventions CV-56] A numeric user, exec form, and the base is an argument."""
    last = IMAGE.rpartition("FROM ")[2]
    assert IMAGE.count("FROM ${BASE}") == 2
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert last.rstrip().endswith('ENTRYPOINT ["paxosnode"]')
    assert "/livez" in last
    assert "secret" not in last
    assert "CMD [" not in last.replace('CMD ["python3"', "")  # options are appended, none is a default


def test_nothing_but_sources_gets_into_the_build() -> None:
    rules = (DOCKER.parent / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert "*" in rules
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", IMAGE, re.MULTILINE)
    copied = {source for line in lines for source in line.split()}
    assert copied == {rule.removeprefix("!") for rule in rules if rule.startswith("!")}


def test_compose_has_no_obsolete_version_key(compose: Any) -> None:
    """[conventions CV-57]"""
    assert "version" not in compose


def test_nodes_have_fixed_addresses_in_a_network_of_their_own(compose: Any, prepare: Any) -> None:
    """[L5-105] The addresses are those that prepare.py writes into the configuration."""
    (pool,) = compose["networks"]["paxos"]["ipam"]["config"]
    network = ipaddress.ip_network(pool["subnet"])
    prepare.main()
    config = load(prepare.ETC / "cluster.yml")
    for node, name in zip(config.nodes, NODES, strict=True):
        address = compose["services"][name]["networks"]["paxos"]["ipv4_address"]
        assert ipaddress.ip_address(address) in network
        assert (node.address.host, node.http.host if node.http else "") == (address, address)


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_the_image_with_options_appended(compose: Any, name: str) -> None:
    """[L5-104]"""
    service = compose["services"][name]
    assert "entrypoint" not in service
    assert service["command"][:2] == ["--node-id", name[-1]]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["depends_on"] == {"prepare": {"condition": "service_completed_successfully"}}
    assert f"data{name[-1]}:/var/lib/paxosnode" in service["volumes"]


def test_volumes_and_bound_files_exist(compose: Any) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), source
            else:
                assert source in compose["volumes"], source


def test_nothing_is_open_to_other_machines(compose: Any) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_images_of_others_are_pinned(compose: Any) -> None:
    for name in ("prometheus", "grafana"):
        assert re.search(r":v?\d+\.\d+\.\d+$", compose["services"][name]["image"])


def test_the_bench_runs_on_request_only(compose: Any) -> None:
    bench = compose["services"]["bench"]
    assert bench["profiles"] == ["bench"]
    assert bench["entrypoint"][:2] == ["bankclient", "--bench"]
    assert {state["condition"] for state in bench["depends_on"].values()} == {"service_healthy"}


def test_prometheus_finds_nodes_and_bench(compose: Any, prepare: Any) -> None:
    prepare.main()
    wanted = yaml.safe_load(targets(load(prepare.ETC / "cluster.yml")))
    found = yaml.safe_load((DOCKER / "targets" / "paxosnode.yml").read_text(encoding="utf-8"))
    assert [entry["labels"] for entry in found] == [entry["labels"] for entry in wanted]
    assert [entry["targets"] for entry in found] == [[f"{name}:7201"] for name in NODES]
    (bench,) = yaml.safe_load((DOCKER / "targets" / "bankclient.yml").read_text(encoding="utf-8"))
    assert bench["targets"] == [f"bench:{compose['services']['bench']['entrypoint'][-1]}"]


def test_grafana_gets_the_same_data_source_at_another_address() -> None:
    own = yaml.safe_load((DOCKER / "datasource.yml").read_text(encoding="utf-8"))
    other = DOCKER.parent / "grafana" / "provisioning" / "datasources" / "paxos.yml"
    usual = yaml.safe_load(other.read_text(encoding="utf-8"))
    own["datasources"][0]["url"] = usual["datasources"][0]["url"]
    assert own == usual


def test_prepare_makes_a_cluster_once(prepare: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main() == 0
    secret = prepare.ETC / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    before = secret.read_text(encoding="ascii")
    assert [(prepare.DATA / str(node) / "data" / "node.db").exists() for node in (1, 2, 3)] == [True] * 3
    assert prepare.main() == 0
    assert secret.read_text(encoding="ascii") == before
    assert "nothing to do" in capsys.readouterr().out


def test_prepare_makes_no_new_data_for_a_node_that_has_lost_its_own(prepare: Any) -> None:
    prepare.main()
    for path in sorted((prepare.DATA / "2").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    prepare.main()
    assert not (prepare.DATA / "2" / "data").exists()


def test_prepare_touches_no_data_that_is_there(prepare: Any) -> None:
    (prepare.DATA / "3" / "data").mkdir()
    (prepare.DATA / "3" / "data" / "node.db").write_text("somebody's")
    with pytest.raises(StoreNotEmpty):
        prepare.main()
    assert not (prepare.ETC / "cluster.yml").exists()
