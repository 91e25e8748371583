"""YAML files read into pydantic models; every mistake ends in one line that names file, line, column and key.

class Recipe(Settings):
    rank: int = Field(16, ge=1)
    schedule: Literal["cosine", "linear"] = "cosine"

recipe = read_yaml(Path("recipe.yaml"), Recipe)       # recipe.yaml, line 3, column 7: rank: expected at least 1, got 0
recipe = check_settings({"rank": 8}, Recipe, "llava")  # the same checks for key=value settings
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from harness.errors import UserError, nearest

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's is much faster, and not in every build of the package."""
LONGEST, DEEPEST = 1_000_000, 50
"""Characters and levels of a YAML file."""
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {_TAG + kind for kind in ("str", "int", "float", "timestamp")}
_KINDS = {"str": "text", "int": "a number", "float": "a number", "bool": "true/false", "null": "nothing"}
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
"""Numbers that YAML 1.1 reads as text: `2e-4`."""

_Model = TypeVar("_Model", bound="Settings")


class _Int(int):
    """A whole number that remembers how it was written."""

    written: str


class _Float(float):
    """A number that remembers how it was written."""

    written: str


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("float_type", "expected a number")
    return int(value) if isinstance(value, int) else float(value)


def _plain(value: Any) -> Any:
    """Without the memory of how numbers were written."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return _number(value) if isinstance(value, _Int | _Float) else value


Text = Annotated[str, BeforeValidator(lambda value: getattr(value, "written", value)), Field(min_length=1)]
"""Text without surrounding blanks, not empty; numbers and dates are taken as written (`version: 1.10`)."""
Texts = Annotated[tuple[Text, ...], Field(strict=False)]
"""A list of `Text`, kept as a tuple."""
Number = Annotated[float, PlainValidator(_number)]
"""A whole number or not, kept as which of the two it was."""
Plain = Annotated[Any, BeforeValidator(_plain)]
"""Any plain value: text, number, true/false, null, and lists and mappings of them."""


class Settings(BaseModel):
    """A model that knows all of its keys and takes no value of another type: `5` is no text, `"5"` no number.

    Class attributes:
        key_description: what an unknown key is called in the message.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        str_strip_whitespace=True,
        defer_build=True,
    )
    key_description: ClassVar[str] = "key"

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        names = [field.alias or name for name, field in cls.model_fields.items()]
        for key in values if isinstance(values, Mapping) else ():
            if key not in names:
                message = f"unknown {cls.key_description} {key!r}; {nearest(str(key), names)}"
                raise PydanticCustomError("unknown_key", "{message}", {"message": message, "key": key})
        return values


class YamlFile:
    """One YAML document, composed safely into nodes that know line and column.

    Args:
        path: a UTF-8 file holding one document.

    Raises:
        UserError: no such file, not UTF-8, not YAML, more than one document, empty, longer than `LONGEST`, deeper than
            `DEEPEST`, or it uses aliases (`*name`), which a few bytes can expand without bound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe or a device may never end
            raise UserError(f"{path}: not a regular file, expected a YAML file")
        try:
            text = path.read_text(encoding="utf-8-sig")
            self._refuse_expansion(text)
            root = yaml.compose(text, Loader=LOADER)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except IsADirectoryError:
            raise UserError(f"{path}: is a folder, expected a YAML file") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
        except yaml.MarkedYAMLError as error:
            raise self._error_at(error.problem_mark, f"not valid YAML: {error.problem}") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        if root is None:
            raise UserError(f"{path}: is empty, expected a YAML mapping")
        self.root: yaml.Node = root

    def read(self, model: type[_Model]) -> _Model:
        """The document as a model.

        Raises:
            UserError: not a mapping, a key that is unknown, missing or given twice, a value that the model refuses. Of
                several mistakes the first in the file is named.
        """
        values = {key: self._written(value) for key, _, value in self.mapping(self.root)}
        try:
            return model.model_validate(values)
        except ValidationError as error:
            found = [(self._node(details), details) for details in error.errors(include_url=False)]
            node, details = min(found, key=lambda pair: pair[0].start_mark.index)
            kind = details["type"]
            shown = isinstance(node, yaml.ScalarNode) and node.value.strip() and kind != "string_type"
            if shown and not kind.endswith(("list_type", "tuple_type", "dict_type", "model_type")):
                got = repr(_plain(details["input"]))
            else:
                got = self._kind(node) + (self._hint(node) if kind == "string_type" else "")
            raise self.error(node, _message(details, got)) from None

    def at(self, *keys: str | int) -> yaml.Node:
        """The node under a path of keys and list positions; the last one that exists."""
        node = self.root
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                found = [value for name, value in node.value if name.value.strip() == str(key)]
            else:
                found = node.value[key : key + 1] if isinstance(node, yaml.SequenceNode) and type(key) is int else []
            if not found:
                break
            node = found[0]
        return node

    def key_at(self, *keys: str | int) -> yaml.Node:
        """The node of the last key itself, in the mapping under the others."""
        above = self.at(*keys[:-1])
        names = [name for name, _ in above.value] if isinstance(above, yaml.MappingNode) else []
        return next((name for name in names if name.value.strip() == str(keys[-1])), above)

    def error(self, node: yaml.Node, message: str) -> UserError:
        """The error to raise about `node`: file, line and column before the message."""
        return self._error_at(node.start_mark, message)

    def mapping(self, node: yaml.Node) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """The entries of a mapping as (key, key node, value node).

        Raises:
            UserError: not a mapping, a key that is not text, or a key given twice.
        """
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"expected a mapping (key: value), got {self._kind(node)}")
        for key, _ in node.value:
            if not (isinstance(key, yaml.ScalarNode) and key.tag in _TEXT_TAGS and key.value.strip()):
                raise self.error(key, f"expected text, got {self._kind(key)}{self._hint(key)}")
        entries = [(str(key.value).strip(), key, value) for key, value in node.value]
        seen: dict[str, int] = {}
        for name, key, _ in entries:
            if name in seen:
                raise self.error(key, f"key {name!r} is given twice (first in line {seen[name]})")
            seen[name] = key.start_mark.line + 1
        return entries

    def plain(self, node: yaml.Node) -> Any:
        """Any plain value: text, number, true/false, null, and lists and mappings of them.

        Raises:
            UserError: a tag that is not plain YAML, or a key given twice.
        """
        return _plain(self._written(node))

    def _written(self, node: yaml.Node) -> Any:
        """Plain values whose numbers remember how they were written."""
        if isinstance(node, yaml.MappingNode):
            return {key: self._written(value) for key, _, value in self.mapping(node)}
        if isinstance(node, yaml.SequenceNode):
            return [self._written(item) for item in node.value]
        try:
            value = yaml.constructor.SafeConstructor().construct_document(node)
        except (yaml.YAMLError, ValueError) as error:
            problem = getattr(error, "problem", error)
            raise self.error(node, f"not a plain value: {problem}") from None
        if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "timestamp":
            return node.value
        if isinstance(node, yaml.ScalarNode) and not node.style:
            return _remembered(value, node.value)
        return value

    def _node(self, details: ErrorDetails) -> yaml.Node:
        keys = [key for key in details["loc"] if key != "[key]"]
        if details["type"] == "unknown_key":
            return self.key_at(*keys, details["ctx"]["key"])
        return self.key_at(*keys) if details["loc"][-1:] == ("[key]",) else self.at(*keys)

    @staticmethod
    def _hint(node: yaml.Node) -> str:
        return f"; write {node.value!r} in quotes" if node.tag == _TAG + "bool" else ""

    def _refuse_expansion(self, text: str) -> None:
        """Refuse what takes a parser far longer to read than it took to write."""
        if len(text) > LONGEST:
            raise UserError(f"{self.path}: {len(text)} characters; expected at most {LONGEST} in a YAML file")
        depth = 0
        for event in yaml.parse(text, Loader=LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise self._error_at(event.start_mark, f"aliases (*{event.anchor}) are not supported; repeat the value")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise self._error_at(event.start_mark, f"not valid YAML here: more than {DEEPEST} levels deep")

    def _error_at(self, mark: Any, message: str) -> UserError:
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return UserError(f"{self.path}{where}: {' '.join(message.split())}")

    @staticmethod
    def _kind(node: yaml.Node) -> str:
        if isinstance(node, yaml.MappingNode):
            return "a mapping"
        if isinstance(node, yaml.SequenceNode):
            return "a list"
        if not node.value.strip():
            return "nothing"
        return _KINDS.get(node.tag.removeprefix(_TAG), f"a {node.tag.removeprefix(_TAG)}")


def read_yaml(path: Path, model: type[_Model]) -> _Model:
    """Read a YAML file into a model.

    Raises:
        UserError: as `YamlFile` and `YamlFile.read`.
    """
    return YamlFile(path).read(model)


def check_settings(values: Mapping[str, Any], model: type[_Model], where: str) -> _Model:
    """Settings that came as `key=value`, checked by the same model.

    Args:
        values: name -> value; text that is a number in exponent notation (`2e-4`) is read as one.
        model: what they should be.
        where: start of the message, such as `llava`.

    Raises:
        UserError: `WHERE: KEY: expected ..., got ...`.
    """
    given = {k: _remembered(v, v) if isinstance(v, str) else v for k, v in values.items()}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        raise UserError(f"{where}: {_message(details, repr(_plain(details['input'])))}") from None


def typed_value(text: str, hint: Any, where: str) -> Any:
    """The text of a `key=value` setting as what the parameter's annotation wants.

    >>> typed_value("8", int | None, "llava:shots"), typed_value("yes", bool, "llava:probs")
    (8, True)

    Raises:
        UserError: `WHERE=TEXT: expected ...`.
    """
    try:
        return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False)).validate_python(text)
    except ValidationError as error:
        details = next(d for d in error.errors(include_url=False) if d["type"] != "none_required")
        message = _message({**details, "loc": ()}, repr(text)).removesuffix(f", got {text!r}")
        raise UserError(f"{where}={text}: {message}") from None


def _remembered(value: Any, written: str) -> Any:
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    number: _Int | _Float = _Int(value) if isinstance(value, int) else _Float(value)
    number.written = written
    return number


_EXPECTED = {
    "string_type": "text",
    "string_too_short": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "string_pattern_mismatch": "text of the form {pattern}",
}


def _message(details: ErrorDetails, got: str) -> str:
    """One of pydantic's errors in our words: `KEY: expected ..., got ...`."""
    kind, context = details["type"], details.get("ctx", {})
    keys = [str(key) for key in details["loc"] if key != "[key]"]
    if kind == "unknown_key":
        return str(context["message"])
    if kind == "missing":
        within = f" in {'.'.join(keys[:-1])}" if keys[:-1] else ""
        return f"required key {keys[-1]!r} is missing{within}"
    name = f"{'.'.join(keys)}: " if keys else ""
    if kind == "literal_error" and isinstance(details["input"], str):
        known = re.findall(r"'([^']*)'", context["expected"])
        return f"{name}unknown value {got}; {nearest(details['input'], known)}"
    if kind == "literal_error":
        return f"{name}expected {context['expected']}, got {got}"
    if kind in _EXPECTED:
        return f"{name}expected {_EXPECTED[kind].format(**context)}, got {got}"
    reason = str(context["error"]) if kind == "value_error" else details["msg"].replace("Input should be", "expected")
    return f"{name}{reason}"
