"""YAML that a person wrote, as plain values with the line of each, and messages that name the line.

Knows YAML alone. Refuses to know what is asked of the content.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backend.outside import DEEPEST, in_a_line, shown, text_of
from backend.records import InputError

Place = tuple[Hashable, ...]  # keys and indices from the top
MOST_VALUES = 100_000  # of a file, with what aliases repeat
MOST_TEXT = 4 << 20  # characters of a file, and of its values with what aliases repeat
LARGEST_NUMBER = 2**63
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
_KINDS = {
    yaml.ScalarNode: _PLAIN,
    yaml.SequenceNode: {"tag:yaml.org,2002:seq"},
    yaml.MappingNode: {"tag:yaml.org,2002:map"},
}


@dataclass(frozen=True, eq=False)
class Document:
    """What a YAML file says, and on which line it says it."""

    path: Path
    value: Any
    lines: Mapping[Place, int]  # of every key and item, from 1

    def line(self, place: Sequence[Hashable]) -> int:
        """The line of a place, or of the nearest thing around it; what is not in the file is passed over."""
        found: Place = ()
        for part in place:
            if (*found, part) in self.lines:
                found = (*found, part)
        return self.lines[found]

    def wrong(self, place: Sequence[Hashable], why: str) -> InputError:
        """What is wrong at a place, with the file and the line."""
        return InputError(f"{self.path}, line {self.line(place)}: {why}")


def read_document(path: Path) -> Document:
    """Read a YAML file of plain values.

    Raises InputError with the line where it is no YAML, has a key twice, a value that is no text, number, true, false,
    null, list or mapping, or more than anybody writes by hand.
    """
    text = text_of(path)
    if len(text) > MOST_TEXT:
        raise InputError(
            f"{path} has {len(text):,} characters, and a recipe at most {MOST_TEXT:,}: is it another file?"
        )
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: this is no YAML ({error.problem or error.context}): mend it") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path} is no YAML ({in_a_line(error)}): mend it") from error
    if root is None:
        raise InputError(f"{path} is empty: begin with what a preset says (python -m backend recipe demo)")
    reader = _Reader(path)
    return Document(path, reader.value(root, ()), reader.lines)


class _Reader:
    """Nodes as values; every one that an alias repeats is read again, so that they are counted."""

    def __init__(self, path: Path) -> None:
        self.lines: dict[Place, int] = {(): 1}
        self._path, self._plain = path, yaml.SafeLoader("")
        self._text = 0  # characters so far

    def value(self, node: yaml.Node, place: Place) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        if len(self.lines) > MOST_VALUES or len(place) > DEEPEST:
            raise InputError(f"{self._path}, line {line}: there is more in it than a recipe has: shorten it")
        if node.tag not in _KINDS.get(type(node), ()):
            raise InputError(
                f"{self._path}, line {line}: {shown(node.value)} is read as {node.tag.rpartition(':')[2]}, which no "
                "part of a recipe is: put it in quotes"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(each, (*place, i)) for i, each in enumerate(node.value)]
        return self._scalar(node, line)

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        self._text += len(node.value)
        if self._text > MOST_TEXT:
            raise InputError(f"{self._path}, line {line}: there is more in it than a recipe has: shorten it")
        try:
            value = self._plain.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError, TypeError, OverflowError, IndexError) as error:
            raise InputError(
                f"{self._path}, line {line}: {shown(node.value)} is no {node.tag.rpartition(':')[2]}: mend it"
            ) from error
        if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise InputError(f"{self._path}, line {line}: the number is larger than any that a recipe has: mend it")
        return value

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise InputError(
                    f"{self._path}, line {line}: a key is {shown(key_node.value)}, which YAML does not read as text: "
                    "put it in quotes"
                )
            key = key_node.value
            if key in found:
                first = self.lines[(*place, key)]
                raise InputError(
                    f"{self._path}, line {line}: {key!r} stands here and on line {first}: two of one name would write "
                    "the same thing. Name them apart"
                )
            self.lines[(*place, key)] = line
            found[key] = self.value(value_node, (*place, key))
        return found
