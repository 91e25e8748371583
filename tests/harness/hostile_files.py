"""Dataset and configuration files made to break a reader; each case writes files and says which command reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

CARD = "name: t\ndataset: jsonl\nemotions: [joy, fear]\nmetrics: [accuracy]\noptions: {examples: examples.jsonl}\n"
LINE = {"id": "a", "image": "a.png", "annotations": [{"emotion": "joy", "explanation": "it is bright"}]}
LAUGHS = "".join(
    f"{c}: &{c} [{', '.join(f'*{p}' for _ in range(9))}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMB = f"a: &a [x, x, x, x, x, x, x, x, x]\n{LAUGHS}"
DEEP = "[" * 50_000
RUN = ["run", "--tasks", "card.yaml", "--models", "majority,human", "--out", "out", "--no-report"]
SCORE = ["score", "--task", "card.yaml", "--outcomes", "m=outcomes.jsonl", "--out", "out", "--no-report"]
LORA = ["train", "llava", "--task", "card.yaml", "--out", "out", "--config", "train.yaml"]
SEVLM = ["train", "sevlm", "--task", "card.yaml", "--out", "out", "--config", "train.yaml", "--lexicon", "lexicon.txt"]
PREPARE = ["data", "prepare", "artemis", "--annotations", "release.csv", "--images", "images", "--data-root", "root"]
PRICED = ["run", "--tasks", "card.yaml", "--models", "gpt4v:model=m,base_url=http://127.0.0.1:9/v1,prices=prices.yaml"]
CODE = "!!python/object/apply:os.system ['touch written']"


class Case(NamedTuple):
    """A sound little task in which some files are replaced, and a command that must end in one line."""

    name: str
    files: dict[str, bytes]
    command: list[str]
    also: Callable[[Path], object] = lambda folder: None


def prepare(case: Case, folder: Path) -> None:
    """Write the case's files over those of a sound task."""
    folder.mkdir()
    Image.new("RGB", (8, 8), "white").save(folder / "a.png")
    (folder / "images" / "Style").mkdir(parents=True)
    (folder / "card.yaml").write_text(CARD)
    (folder / "examples.jsonl").write_text(json.dumps(LINE) + "\n")
    (folder / "lexicon.txt").write_text("joy\t0.9\t0.5\t0.5\n")
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    case.also(folder)


def corpus() -> list[Case]:
    """All cases, each of another name."""
    return [*_cards(), *_examples(), *_configs(), *_outcomes(), *_tables(), *_runs()]


def _cards() -> Iterator[Case]:
    plain = CARD.encode()
    texts = {
        "empty": b"",
        "binary": os.urandom(0) + bytes(range(256)) * 9,
        "not utf-8": plain + b"title: caf\xe9\n",
        "alias bomb": BOMB.encode(),
        "code": plain + f"title: {CODE}\n".encode(),
        "deep": plain + f"slices: {DEEP}".encode(),
        "twice": plain + b"name: u\n",
        "two documents": plain + b"---\n" + plain,
        "tabs": b"name:\n\t- t\n",
        "nul": plain.replace(b"joy", b"j\0y"),
        "leaves": plain.replace(b"name: t", b"name: ../../t"),
        "absolute": plain.replace(b"name: t", b"name: /t"),
        "one emotion": plain.replace(b"[joy, fear]", b"[joy]"),
        "emotions not a list": plain.replace(b"[joy, fear]", b"{joy: fear}"),
        "unknown key": plain + b"command: rm\n",
        "unknown option": plain.replace(b"{examples", b"{exec: rm, examples"),
        "module of Python's own": plain.replace(b"jsonl\n", b"os:system\n", 1),
        "module with a side effect": plain.replace(b"jsonl\n", b"antigravity:x\n", 1),
        "relative module": plain.replace(b"jsonl\n", b"'..evil:Reader'\n", 1),
        "not a reader": plain.replace(b"jsonl\n", b"harness.cli:main\n", 1),
        "prompt that never ends": plain
        + b"prompts: {default: '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}'}\n",
        "prompt that fills the memory": plain + b"prompts: {default: \"{{ 'a' * 9999999999 }}\"}\n",
        "prompt that looks around": plain + b"prompts: {default: '{{ labels.__class__.__mro__ }}'}\n",
        "recursive prompt": plain + b"prompts: {default: '{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}'}\n",
        "huge number": plain + b"ratings: {valence: [1, 1" + b"0" * 5000 + b"]}\n",
    }
    for name, text in texts.items():
        yield Case(f"card: {name}", {"card.yaml": text}, RUN)
    evil = b"open('written', 'w').close()\n"
    yield Case(
        "card: a module beside it", {"card.yaml": plain.replace(b"jsonl\n", b"evil:Reader\n", 1), "evil.py": evil}, RUN
    )
    yield Case("card: a pipe", {}, RUN, lambda folder: _pipe(folder / "card.yaml"))
    yield Case("card: a device", {}, RUN, lambda folder: _link(folder / "card.yaml", "/dev/zero"))


def _examples() -> Iterator[Case]:
    changed = {
        "picture above": {"image": "../a.png"},
        "picture absolute": {"image": "/etc/passwd"},
        "picture through a link": {"image": "link.png"},
        "picture through a linked folder": {"image": "elsewhere/passwd"},
        "picture with nul": {"image": "a\0.png"},
        "picture is a folder": {"image": "images"},
        "picture is a pipe": {"image": "pipe.png"},
        "picture of endless name": {"image": "a" * 70_000},
        "no id": {"id": None},
        "id a list": {"id": ["a"]},
        "unknown emotion": {"annotations": [{"emotion": "jo\x1b[2Jy", "explanation": "x"}]},
        "annotations an object": {"annotations": {"emotion": "joy"}},
        "no annotation": {"annotations": []},
        "split a number": {"split": 7},
        "meta nested": {"meta": {"a": {"b": "c"}}},
        "unknown key": {"exec": "rm"},
    }
    for name, change in changed.items():
        yield Case(f"examples: {name}", {"examples.jsonl": json.dumps({**LINE, **change}).encode()}, RUN, _places)
    line = json.dumps(LINE).encode()
    raw = {
        "empty": b"",
        "not utf-8": line.replace(b"bright", b"br\xffght"),
        "not an object": b"[1, 2]",
        "deep": DEEP.encode(),
        "deep within": line.replace(b'"a"', DEEP.encode(), 1),
        "cut off": line[:40],
        "same id twice": line + b"\n" + line,
        "endless number": line.replace(b'"a"', b"1" * 9_000, 1),
        "mark in the middle": line + b"\n\xef\xbb\xbf" + line,
        "megabytes without a line end": b'{"id": "' + b"a" * 30_000_000,
    }
    for name, content in raw.items():
        yield Case(f"examples: {name}", {"examples.jsonl": content}, RUN)
    yield Case("examples: a pipe", {}, RUN, lambda folder: _pipe(folder / "examples.jsonl"))
    yield Case("examples: a device", {}, RUN, lambda folder: _link(folder / "examples.jsonl", "/dev/zero"))


def _configs() -> Iterator[Case]:
    run = ["run", "--config", "options.yaml"]
    sound = "tasks: card.yaml\nmodels: majority\nout: out\n"
    for name, text in {
        "alias bomb": BOMB,
        "code": f"tasks: {CODE}\n",
        "deep": f"tasks: {DEEP}",
        "a list": "- tasks\n",
        "unknown option": sound + "exec: rm\n",
        "wrong type": sound + "batch-size: many\n",
        "mapping for text": sound + "split: {a: b}\n",
        "remote code": sound + "trust-remote-code: true\n",
        "remote code in a model": "tasks: card.yaml\nmodels: ['llava:trust_remote_code=true']\n",
    }.items():
        yield Case(f"config: {name}", {"options.yaml": text.encode()}, run)
    for name, text in {
        "alias bomb": BOMB,
        "code": f"learning_rate: {CODE}\n",
        "deep": f"training: {DEEP}",
        "wrong type": "epochs: [[1]]\n",
        "unknown": "exec: rm\n",
        "binary": "\x01\x02",
        "infinite": "learning_rate: .inf\nepochs: .nan\n",
    }.items():
        yield Case(f"recipe of sevlm: {name}", {"train.yaml": text.encode()}, SEVLM)
        yield Case(f"recipe of llava: {name}", {"train.yaml": text.encode()}, LORA)
    for name, text in {
        "alias bomb": BOMB,
        "code": f"hosts: {CODE}\n",
        "negative": "hosts: [a]\nmodels: {m: {in: -1, out: 2}}\n",
    }.items():
        yield Case(f"prices: {name}", {"prices.yaml": text.encode()}, PRICED)


def _outcomes() -> Iterator[Case]:
    sound = {"id": "a", "emotion": "joy", "explanation": "x"}
    for name, change in {
        "unknown kind": {"kind": "maybe"},
        "id a number": {"id": 7},
        "unknown id": {"id": "b"},
        "emotion no text": {"emotion": 5},
        "probabilities a list": {"emotion_probs": [1]},
        "probabilities without bound": {"emotion_probs": {"joy": 10**400}},
        "usage a list": {"usage": [1]},
        "usage text": {"usage": {"latency_s": "long"}},
        "error a list": {"kind": "failed", "error": ["x"]},
        "raw a number": {"raw": 7},
        "ratings text": {"ratings": {"valence": "high"}},
        "held out text": {"held_out": "0"},
    }.items():
        yield Case(f"outcomes: {name}", {"outcomes.jsonl": json.dumps({**sound, **change}).encode() + b"\n"}, SCORE)
    for name, content in {
        "deep": DEEP.encode() + b"\n",
        "not a number": b'{"id": "a", "emotion": "joy", "explanation": "x", "emotion_probs": {"joy": NaN}}\n',
        "not utf-8": b'{"id": "\xff"}\n',
        "not JSON": b"id,emotion\na,joy\n",
    }.items():
        yield Case(f"outcomes: {name}", {"outcomes.jsonl": content}, SCORE)
    named = [word.replace("m=", "../m=") for word in SCORE]
    yield Case("outcomes: a name that leaves", {"outcomes.jsonl": json.dumps(sound).encode()}, named)


def _tables() -> Iterator[Case]:
    header = b"art_style,painting,emotion,utterance,repetition\n"
    for name, content in {
        "empty": b"",
        "binary": bytes(range(256)) * 40,
        "wrong columns": b"a,b\n1,2\n",
        "unclosed quote": header + b'Style,a,joy,"never closed\n' * 99,
        "short row": header + b"Style,a\n",
        "picture above": header + b"../Style,../../etc/passwd,awe,it is big,1\n",
        "unknown emotion": header + b"Style,a,joyy,it is big,1\n",
    }.items():
        yield Case(f"table: {name}", {"release.csv": content}, PREPARE)
    for name, content in {
        "binary": bytes(range(256)),
        "not numbers": b"joy\thigh\tlow\tlow\n",
        "off the scale": b"joy\t1e99\t0\t0\n",
        "empty": b"",
    }.items():
        yield Case(f"lexicon: {name}", {"lexicon.txt": content, "train.yaml": b"epochs: 1\n"}, SEVLM)
    for name, content in {"binary": b"\xff\xfe\x00", "empty": b"", "unknown": b"zz\n"}.items():
        yield Case(f"ids: {name}", {"ids.txt": content}, [*RUN, "--ids-file", "ids.txt"])
    for name, record in {"a list": b"[]", "deep": DEEP.encode(), "not JSON": b"{"}.items():
        copy = {"root/artemis/prepared.json": record, "root/artemis/annotations.parquet": b"PAR1"}
        yield Case(f"prepared copy: {name}", copy, ["data", "check", "artemis", "--data-root", "root"])


def _runs() -> Iterator[Case]:
    for name, content in {
        "a list": b"[]",
        "empty object": b"{}",
        "nothing but a schema": b'{"schema": 1}',
        "deep": DEEP.encode(),
        "tasks a number": b'{"schema": 1, "tasks": 7, "models": [], "runs": []}',
        "empty task": b'{"schema": 1, "tasks": [{}], "models": [], "runs": []}',
        "empty run": b'{"schema": 1, "tasks": [], "models": [], "runs": [{}]}',
        "task by name alone": b'{"schema": 1, "tasks": [{"name": "t"}], "models": [], "runs": []}',
    }.items():
        for verb in ("score", "report", "doctor"):
            results = {"run/results.json": content} if verb == "report" else {}
            yield Case(f"{verb}: manifest {name}", {"run/manifest.json": content, **results}, [verb, "run"])

    rest = '"coverage": [], "confusion": []'
    for name, found in {
        "cell": '"cells": [{}], "models": [], "comparisons": []',
        "model": '"cells": [], "models": [{}], "comparisons": []',
        "comparison": '"cells": [], "models": [], "comparisons": [{"a": "m", "b": "n"}]',
    }.items():
        files = {
            "run/manifest.json": b'{"schema": 1, "tasks": [], "models": [], "runs": []}',
            "run/results.json": f'{{"schema": 1, {rest}, {found}}}'.encode(),
        }
        yield Case(f"report: empty {name}", files, ["report", "run"])
        yield Case(f"compare: empty {name}", files, ["compare", "run", "--models", "m,n"])


def _places(folder: Path) -> None:
    _link(folder / "link.png", "/etc/passwd")
    _link(folder / "elsewhere", "/etc")
    _pipe(folder / "pipe.png")


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
