"""The shape of cluster.yml: its sections, keys, types and defaults, and how plain values are fitted to it.

All that does not fit is reported together, each with file, line and key. What keys mean to each other is checked in
`paxos_twisted.node.config`.
"""

import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from paxos_twisted.core.epaxos.settings import Settings as EPaxosSettings
from paxos_twisted.core.multipaxos.settings import Settings
from paxos_twisted.limits import ALPHA_MAX, NODE_ID_MAX, SESSION_EXPIRY_MAX, SNAPSHOT_EVERY_MAX, SNAPSHOT_EVERY_MIN
from paxos_twisted.node.quantities import Address, Duration, did_you_mean, parse_address, parse_duration, shown
from paxos_twisted.node.yaml_text import Place, Plain

_DEFAULTS = Settings()
_EPAXOS = EPaxosSettings()

Policy = Literal["sticky", "lab"]


class DetectorSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is alive, and who leads."""

    policy: Policy | None = None
    """None: as the profile says."""
    heartbeat: Duration = Duration(_DEFAULTS.heartbeat_ms)
    delay: Duration = Duration(_DEFAULTS.delay_ms)
    delta: Duration = Duration(_DEFAULTS.delta_ms)


class TimeoutsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the engine waits before it tries again."""

    phase1: Duration = Duration(_DEFAULTS.phase1_ms)
    phase2: Duration = Duration(_DEFAULTS.phase2_ms)
    catch_up: Duration = Duration(_DEFAULTS.catch_up_ms)
    disk_slow: Duration = Duration(_DEFAULTS.disk_slow_ms)


class PrimaryBackupSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What only the engine primary-backup is told."""

    mode: Literal["safe", "no-partitions"] = "safe"


class EPaxosSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What only the engine epaxos is told."""

    thrifty: bool = True
    answer: Duration = Duration(_EPAXOS.answer_ms)
    recover: Duration = Duration(_EPAXOS.recover_ms)
    hold: Duration = Duration(_EPAXOS.hold_ms)


class NodeSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replica."""

    id: Annotated[int, Meta(ge=1, le=NODE_ID_MAX)]
    address: Address
    http: Address | None = None
    data_dir: str


class ClusterFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    cluster: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
            description="letters, digits, '.', '_' and '-' (63 at most, a letter or digit first)",
        ),
    ]
    engine: Literal["multipaxos", "epaxos", "primary-backup"] = "multipaxos"
    application: str
    profile: Literal["default", "lab"] = "default"
    alpha: Annotated[int, Meta(ge=1, le=ALPHA_MAX)] | None = None
    """None: as the profile says."""
    detector: DetectorSection = DetectorSection()
    timeouts: TimeoutsSection = TimeoutsSection()
    epaxos: EPaxosSection = EPaxosSection()
    primary_backup: PrimaryBackupSection = PrimaryBackupSection()
    snapshot_every: Annotated[int, Meta(ge=SNAPSHOT_EVERY_MIN, le=SNAPSHOT_EVERY_MAX)] = 100_000
    session_expiry: Annotated[int, Meta(ge=1, le=SESSION_EXPIRY_MAX)] = 10_000_000
    secret_file: str | None = None
    nodes: list[NodeSection]


class Report:
    """Everything that is wrong with one file."""

    def __init__(self, name: str, lines: dict[Place, int]) -> None:
        self.name = name
        self.lines = lines
        self._errors: list[tuple[int, str]] = []
        self._wrong: set[Place] = set()
        self.warnings: list[str] = []

    def error(self, place: Place, text: str) -> None:
        """Note that the value at `place` (or the missing value there) is wrong."""
        self._errors.append(self._entry(place, text))
        self._wrong.add(place)

    def is_wrong(self, place: Place) -> bool:
        """Whether something was said about exactly this value."""
        return place in self._wrong

    def warn(self, place: Place, text: str) -> None:
        """Note that the value at `place` works but is probably not meant so."""
        self.warnings.append(self._entry(place, text)[1])

    @property
    def errors(self) -> list[str]:
        """One sentence each, in the order of the lines."""
        return [text for _, text in sorted(self._errors, key=lambda entry: entry[0])]

    def _entry(self, place: Place, text: str) -> tuple[int, str]:
        found = place
        while found and found not in self.lines:
            found = found[:-1]
        line = self.lines.get(found, 1)
        key = spell(place)
        return line, f"{self.name}:{line}: {key}: {text}" if key else f"{self.name}:{line}: {text}"


def spell(place: Place) -> str:
    """A place as people write it: nodes[1].address."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            word = step if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", step) else shown(step)
            text += f".{word}" if text else word
    return text


Section = DetectorSection | TimeoutsSection | PrimaryBackupSection | NodeSection | ClusterFile


def fit(kind: type[Any], value: Plain, place: Place, report: Report) -> Any:
    """Fit plain values to a section. Wrong values are reported, and replaced by their default so that the rest can be
    checked too; None when a value without a default is wrong (a text or list is replaced by an empty one)."""
    if not isinstance(value, dict):
        report.error(
            place, f"{shown(value)} is not a section with keys" if value is not None else "nothing stands here"
        )
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key in value:
        if key not in fields:
            report.error((*place, key), f"there is no such key{did_you_mean(key, fields) or _list_of(fields)}")
    good: dict[str, Any] = {}
    for name, field in fields.items():
        where = (*place, name)
        if name in value:
            result = _read(_without_none(field.type), value[name], where, report)
            if result is not None:
                good[name] = result
                continue
        elif field.required:
            report.error(where, "this key is missing")
        if field.required:
            replacement = _replacement(field.type)
            if replacement is None:
                return None
            good[name] = replacement
    return kind(**good)


def _read(kind: Any, value: Plain, place: Place, report: Report) -> Any:
    """The value as `kind`, or None after a report."""
    if value is None:
        report.error(place, "nothing stands behind this key; write a value or remove the key")
        return None
    if get_origin(kind) is list:
        if not isinstance(value, list):
            report.error(place, f"{shown(value)} is not a list")
            return None
        (item_kind,) = get_args(kind)
        return [fit(item_kind, item, (*place, index), report) for index, item in enumerate(value)]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return fit(kind, value, place, report)
    try:
        if kind is bool:
            return _truth(value)
        if kind in _READERS:
            return _READERS[kind](value)
        if get_origin(kind) is Literal:
            return one_of(value, get_args(kind))
        return _bounded(value, kind)
    except ValueError as error:
        report.error(place, str(error))
        return None


def one_of(value: Plain, words: tuple[str, ...]) -> str:
    """Return `value` when it is one of `words`.

    Raises:
        ValueError: with the sentence for people.
    """
    if isinstance(value, str) and value in words:
        return value
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    raise ValueError(f"{shown(value)} is not known{hint or _list_of(words)}")


def _truth(value: Plain) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value


def _bounded(value: Plain, kind: Any) -> int | str:
    base, *metas = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    meta = metas[0] if metas else Meta()
    if base is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{shown(value)} is not a whole number")
        least, most = meta.ge, meta.le
        assert least is not None and most is not None, "every number has bounds"
        if not least <= value <= most:
            raise ValueError(f"{value} is not in {least}..{most}")
        return value
    assert base is str, base
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not text; write it in quotes: "{value}"')
    if not value.strip():
        raise ValueError("the text is empty")
    if any(not letter.isprintable() for letter in value):
        raise ValueError(f"{shown(value)} holds characters that cannot be printed")
    if meta.pattern and not re.fullmatch(meta.pattern, value):
        raise ValueError(f"{shown(value)} is not a name; use {meta.description}")
    return value


_READERS: dict[Any, Callable[[object], object]] = {Duration: parse_duration, Address: parse_address}


def _replacement(kind: Any) -> Any:
    base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return "" if base is str else [] if get_origin(base) is list else None


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(kind) if part is not type(None))
    return kind


def _list_of(words: Any) -> str:
    return "; it can be " + ", ".join(words)
