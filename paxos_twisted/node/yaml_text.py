"""YAML text to plain values, with the line of each value, and strict where YAML is generous.

Not accepted: two equal keys in one mapping (the parser would take the last one), aliases, tags, several documents.
`yes`, `on`, `010`, `1:30` and dates are text or decimal numbers, as in YAML 1.2, not booleans, 8, 90 and dates.
"""

import re
from typing import Final

import yaml

Key = str | int
Place = tuple[Key, ...]
"""The way to a value: ("nodes", 1, "address")."""

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

DEPTH_MAX: Final = 16
"""Levels of nesting; a configuration has three."""

_TAG: Final = "tag:yaml.org,2002:"


class YamlError(Exception):
    """The text is not a YAML document of the kind described above."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        """From 1."""
        self.text = text


class _Loader(yaml.SafeLoader):
    """Knows null, booleans and numbers, and takes all else for text."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a few of them can make a huge document, or an endless one
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias (*name) is not allowed here", problem_mark=mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}  # not those of the base class
for _name, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?[0-9][0-9_]{0,20}", list("-+0123456789")),
    ("float", r"[-+]?[0-9]{1,20}\.[0-9]{0,20}", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def parse_yaml(text: str) -> tuple[Plain, dict[Place, int]]:
    """Return the value of the only document in `text` (None when it is empty), and the line of each value.

    Raises:
        YamlError: with the line and, where the parser knows it, the column.
    """
    lines: dict[Place, int] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return (None if node is None else _plain(node, (), lines)), lines
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(line, "a character that does not belong into text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(str(part) for part in (error.context, error.problem) if part)
        column = f" (column {mark.column + 1})" if mark else ""
        raise YamlError(mark.line + 1 if mark else 1, problem + column) from error
    except RecursionError as error:
        raise YamlError(1, f"nested more than {DEPTH_MAX} levels deep") from error
    except (ValueError, OverflowError) as error:  # PyYAML lets some slip, e.g. for the escape "\UFFFFFFFF"
        raise YamlError(1, f"something in it is not YAML: {error}") from error


def _plain(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Plain:
    line = node.start_mark.line + 1
    if len(place) > DEPTH_MAX:
        raise YamlError(line, f"nested more than {DEPTH_MAX} levels deep")
    lines[place] = line
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        values: dict[str, Plain] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError(key_line, "a key must be a word")
            key = str(key_node.value)
            if key in values:
                raise YamlError(key_line, f'the key "{key[:60]}" stands here for the second time')
            values[key] = _plain(value_node, (*place, key), lines)
            lines[(*place, key)] = key_line
        return values
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_plain(item, (*place, index), lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, line)
    raise YamlError(line, f'the tag "{node.tag[:60]}" is not allowed here')


def _scalar(node: yaml.ScalarNode, line: int) -> Plain:
    text = str(node.value)
    try:
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool" if text in ("true", "false"):
                return text == "true"
            case "int":
                return int(text.replace("_", ""))
            case "float":
                return float(text)
            case "str":
                return text
            case _:
                pass
    except ValueError:
        pass
    raise YamlError(line, f'the tag "{node.tag[:60]}" is not allowed here')
