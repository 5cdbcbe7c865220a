"""The playbooks as texts: they pass ansible-lint, their settings are described, and what they refuse without a machine.

Without Ansible (dependency group `lab`) only the settings are checked.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from paxos_twisted.apps.registry import APPLICATIONS
from paxos_twisted.core.registry import ENGINES

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
ROLES = sorted(path.name for path in (ANSIBLE / "roles").iterdir())
PLAYBOOKS = sorted(path.name for path in ANSIBLE.glob("*.yml") if path.name != "requirements.yml")
TYPES: dict[str, type | tuple[type, ...]] = {
    "bool": bool,
    "dict": dict,
    "float": (int, float),
    "int": int,
    "list": list,
    "path": str,
    "raw": object,
    "str": str,
}


def program(name: str) -> str:
    """A program of Ansible: of this virtual environment, or else on the path."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not here; type: pip install --group lab")
    return found


def run(*words: str, code: int) -> str:
    environ = {**os.environ, "ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1", "PYTHONWARNINGS": ""}
    environ["PATH"] = f"{Path(words[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        words,
        cwd=ANSIBLE,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, f"{' '.join(words)}: {done.returncode}\n{output[-6000:]}"
    return output


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def options(role: str) -> dict[str, Any]:
    found: dict[str, Any] = read(ANSIBLE / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"]
    options: dict[str, Any] = found.get("options", {})
    return options


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_is_described_and_has_the_type_it_says(role: str) -> None:
    described = options(role)
    for name, value in read(ANSIBLE / "roles" / role / "defaults/main.yml").items() if has_defaults(role) else ():
        assert name in described, f"{name} is missing in meta/argument_specs.yml"
        if not (isinstance(value, str) and "{{" in value):
            assert isinstance(value, TYPES[described[name]["type"]]), f"{name}: {value!r}"
            assert value in described[name].get("choices", [value])


@pytest.mark.parametrize("role", ROLES)
def test_every_described_setting_is_of_its_role_and_used(role: str) -> None:
    texts = "".join(path.read_text() for path in ANSIBLE.rglob("*.yml") if path.name != "argument_specs.yml")
    texts += "".join(path.read_text() for path in ANSIBLE.rglob("*.j2"))
    texts += "".join(path.read_text() for path in (ANSIBLE / "filter_plugins").glob("*.py"))
    for name, option in options(role).items():
        assert name.startswith(f"{role}_") and option["description"]
        assert re.search(rf"\b{name}\b", texts), f"{name} is described but used nowhere"


def has_defaults(role: str) -> bool:
    return (ANSIBLE / "roles" / role / "defaults/main.yml").exists()


def test_every_engine_and_application_can_be_deployed() -> None:
    described = options("cluster")
    assert set(ENGINES) <= set(described["cluster_engine"]["choices"])
    assert set(APPLICATIONS) <= set(described["cluster_application"]["choices"])


@pytest.mark.lab
def test_ansible_lint_is_content_with_the_profile_for_production() -> None:
    output = run(program("ansible-lint"), "--nocolor", "--offline", code=0)
    assert "Profile 'production' was required, and it passed" in output


@pytest.mark.lab
def test_every_playbook_is_understood_with_every_inventory() -> None:
    words = (program("ansible-playbook"), "--syntax-check")
    for inventory in sorted(path.name for path in (ANSIBLE / "inventories").iterdir()):
        run(*words, "-i", f"inventories/{inventory}", *PLAYBOOKS, code=0)


@pytest.mark.lab
def test_an_inventory_that_nobody_has_edited_is_refused() -> None:
    output = run(program("ansible-playbook"), "deploy.yml", code=2)
    assert "The inventory" in output and "cannot be used. Nothing was touched." in output
    assert output.count("ansible_host is 'CHANGE_ME'; write the address or name of the machine") >= 4


@pytest.mark.lab
def test_settings_that_do_not_exist_or_cannot_be_are_refused() -> None:
    wrong = ("-i", "inventories/virtual", "-e", "cluster_engine=raft", "-e", "cluster_nmae=x")
    output = run(program("ansible-playbook"), "deploy.yml", *wrong, code=2)
    assert "cluster_engine is 'raft'; it can be" in output
    assert "there is no setting cluster_nmae; did you mean cluster_name?" in output


@pytest.mark.lab
def test_nothing_is_destroyed_without_being_asked_for() -> None:
    output = run(program("ansible-playbook"), "-i", "inventories/virtual", "destroy.yml", code=2)
    assert "This removes the cluster with all its data from" in output
    assert "Nothing was touched. If you mean it, say -e confirm=yes." in " ".join(output.split())


@pytest.mark.lab
def test_an_unknown_scenario_is_told_with_those_there_are() -> None:
    words = ("-i", "inventories/virtual", "failover_test.yml", "-e", "crash_test_scenarios=leader-kiled")
    output = " ".join(run(program("ansible-playbook"), *words, code=2).split())
    assert "There is no scenario leader-kiled. There are one-client," in output
