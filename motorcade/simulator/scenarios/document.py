"""A YAML file as plain values, with the line of every key; overrides on top."""

from collections.abc import Iterable
from typing import Any

import yaml

from motorcade.fleet.errors import MotorcadeError

Path = tuple[str | int, ...]


class ScenarioError(MotorcadeError):
    """A scenario is malformed or cannot be; the message names file, line and key."""


def dotted(path: Path) -> str:
    """A path as people write it: stages.0.seconds."""
    return ".".join(str(part) for part in path)


class Document:
    """Plain values of a scenario and where each was written.

    Args:
        text: YAML.
        source: its name in messages, a file's path.

    Raises:
        ScenarioError: it is not YAML, not a mapping, or a key stands twice.
    """

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._places: dict[Path, str] = {}
        #: What was given to an override, as it was spelled.
        self._spelled: dict[Path, str] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = 0 if error.problem_mark is None else error.problem_mark.line
            raise ScenarioError(
                f"{source}:{line + 1}: this is not YAML: {error.problem}.",
                "Keys are followed by a colon and a space; what belongs to them is indented.",
            ) from error
        except yaml.YAMLError as error:
            raise ScenarioError(f"{source}: this is not YAML: {error}.") from error
        if not isinstance(node, yaml.MappingNode):
            found = "nothing" if node is None else node.tag.rpartition(":")[2]
            raise ScenarioError(
                f"{source}:1: a scenario is a mapping of keys to values, found {found}.",
                "`motorcade scenarios show steady` prints one.",
            )
        self.values: dict[str, Any] = self._plain(node, ())

    def place(self, path: Path) -> str:
        """Where a key was written, "file:line" or "--set key"; the nearest that was written."""
        while path and path not in self._places:
            path = path[:-1]
        return self._places.get(path, f"{self._source}:1")

    def has(self, path: Path) -> bool:
        """Whether a key was written."""
        return path in self._places

    def override(self, assignments: Iterable[str]) -> None:
        """Replace values: "fleet.cars=200", "stages.0.seconds=5s"; a value is read as YAML, and
        taken as it is spelled where `take_as_spelled` says that it is to be text.

        Raises:
            ScenarioError: an assignment has no such form, or names an entry that is not there.
        """
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            parts = [part.strip() for part in key.split(".")]
            if not equals or not all(parts):
                raise ScenarioError(
                    f"--set {assignment} was not understood.",
                    "Write a dotted key, = and a value: --set fleet.cars=200 "
                    "--set stages.0.seconds=5s.",
                )
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ScenarioError(f"--set {assignment}: {text!r} is no YAML value.") from error
            self._spelled[self._set(parts, value, assignment)] = text.strip()

    def take_as_spelled(self, paths: Iterable[Path]) -> bool:
        """Let overrides be the text that was given: YAML takes a topic named 2026 for a number.

        Returns:
            Whether one of these paths was such an override.
        """
        found = {path for path in paths if path in self._spelled}
        for path in found:
            holder: Any = self.values
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = self._spelled.pop(path)
        return bool(found)

    def _set(self, parts: list[str], value: object, assignment: str) -> Path:
        place = f"--set {assignment}"
        holder: Any = self.values
        path: Path = ()
        for position, part in enumerate(parts):
            last = position == len(parts) - 1
            step: str | int = part
            if isinstance(holder, list):
                if not part.isdecimal() or int(part) >= len(holder):
                    raise ScenarioError(
                        f"{place}: {dotted(path)} has {len(holder)} entries, {part!r} is none.",
                        f"They are 0 to {len(holder) - 1}." if holder else "It is empty.",
                    )
                step = int(part)
            elif not isinstance(holder, dict):
                raise ScenarioError(
                    f"{place}: {dotted(path)} is {holder!r}, which has no keys of its own."
                )
            path = (*path, step)
            if last:
                holder[step] = value
                for known in [one for one in self._places if one[: len(path)] == path]:
                    del self._places[known]
                self._places[path] = place
            else:
                if isinstance(holder, dict) and holder.get(part) is None:
                    holder[part] = {}
                    self._places[path] = place
                holder = holder[step]
        return path

    def _plain(self, node: yaml.Node, path: Path) -> Any:
        if path not in self._places:
            self._places[path] = self._at(node)
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                if key in found:
                    raise ScenarioError(
                        f"{self._at(key_node)}: {dotted((*path, key))} stands twice.",
                        "Leave one out.",
                    )
                self._places[*path, key] = self._at(key_node)
                found[key] = self._plain(value_node, (*path, key))
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(one, (*path, n)) for n, one in enumerate(node.value)]
        constructor = yaml.SafeLoader("")
        try:
            return constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise ScenarioError(f"{self._at(node)}: {dotted(path)}: {error}.") from error

    def _at(self, node: yaml.Node) -> str:
        return f"{self._source}:{node.start_mark.line + 1}"
