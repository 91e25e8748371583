import pytest

from harness.errors import nearest
from harness.plan.registry import Registry, adapter_registry, load_class_from_file
from harness.types import UserError


def test_targets_are_imported_only_when_loaded():
    registry = Registry("model", {"broken": "no_such_module:Thing", "path": "pathlib:Path"})
    assert registry.names() == ["broken", "path"]
    assert registry.load("path").__name__ == "Path"
    with pytest.raises(UserError, match="no_such_module"):
        registry.load("broken")


def test_clash_names_both_sides():
    registry = Registry("model", {"a": "x:A"})
    registry.add("a", "x:A")  # the same target again is no clash
    with pytest.raises(UserError, match=r"claimed by both x:A and y:B"):
        registry.add("a", "y:B")


def test_unknown_names_get_near_misses():
    with pytest.raises(UserError, match="unknown model 'llawa'; did you mean llava"):
        adapter_registry().target("llawa")
    assert nearest("qqqq", ["b", "a"]) == "known: a, b"
    assert nearest("foo", []) == "known: none"


def test_missing_attribute_suggests_what_is_there():
    with pytest.raises(UserError, match="did you mean Path"):
        Registry("model", {"x": "pathlib:Pathh"}).load("x")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("brightness", "expected NAME=FILE.py:Class"),
        ("b=missing.py:X", "no such file"),
        ("majority={file}:Brightness", "claimed by both"),
        ("b={file}:Brightnes", "did you mean Brightness"),
        ("b={file}:Answer", "must be a subclass"),
    ],
)
def test_adapter_files_that_cannot_be_used(adapter_file, definition, message):
    with pytest.raises(UserError, match=message):
        adapter_registry([definition.format(file=adapter_file)])


def test_adapter_file_that_fails_to_import(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load_class_from_file(f"{path}:X")


def test_an_adapter_file_called_like_a_module_leaves_the_module_alone(adapter_file):
    import random
    import sys

    twin = adapter_file.with_name("random.py")
    twin.write_text(adapter_file.read_text())
    cls = adapter_registry([f"b={twin}:Brightness"]).load("b")
    assert sys.modules["random"] is random
    assert sys.modules[cls.__module__].Brightness is cls  # dataclasses and pickles look there


@pytest.mark.slow
def test_every_built_in_adapter_loads_without_heavy_imports():
    import subprocess
    import sys

    code = (
        "import sys\nfrom harness.plan.registry import adapter_registry\n"
        "r = adapter_registry()\n"
        "older = {'hf': 'llava', 'openai': 'gpt4v'}\n"
        "for n in r.names():\n    assert r.load(n).name == older.get(n, n), n\n"
        "assert not {'torch', 'transformers', 'pandas', 'sklearn'} & set(sys.modules), set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
