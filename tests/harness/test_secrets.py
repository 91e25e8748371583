"""A key in the environment and in a config is found in no file that a command writes, in no form."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from servers import Reply, Request, answered, error, serving

pytestmark = pytest.mark.slow

KEY = "f4ke+key/of=no&service-0123456789"
"""Of no known shape, and different when it is quoted."""


def forms(key: str) -> list[bytes]:
    """The key itself, quoted, in hexadecimal, and in base64 at each of the three places where it can begin."""
    found = [key.encode(), quote(key, safe="").encode(), json.dumps(key).encode()[1:-1]]
    found += [key.encode().hex().encode(), key.encode().hex().upper().encode()]
    for shift in range(3):
        whole = base64.b64encode(b"x" * shift + key.encode())
        found += [whole[4:-4], base64.urlsafe_b64encode(b"x" * shift + key.encode())[4:-4]]
    return found


def search(folder: Path) -> list[str]:
    """Files below a folder that hold the key."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [f"{path}: {form!r}" for path in files for form in forms(KEY) if form in path.read_bytes()]


@pytest.fixture
def echo() -> Iterator[str]:
    """An endpoint that repeats the key it was given: in answers, in errors, quoted, in hexadecimal and in base64."""

    count = itertools.count(1)

    def answer(request: Request) -> Reply:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        said = f"joy because {key} {quote(key, safe='')} {base64.b64encode(b'user:' + key.encode()).decode()}"
        said += f" {key.encode().hex()}"
        if request.path.endswith("/models"):
            return Reply(body={"object": "list", "data": [{"id": f"m {key}", "root": key, "meta": {key: key}}]})
        number, reply = next(count), answered(said, reasoning=f"thinking of {key}")
        if number % 5 == 0:
            return error(422, f"bad key: {said}", code=key, param=key)
        if number % 5 == 1:
            reply = answered(None, refusal=f"no, {said}")
        if number % 5 == 2:
            reply = answered("", f"error {key}")
        usage = {"prompt_tokens": 5, "completion_tokens": 5, key: key, "prompt_tokens_details": {key: 1}}
        reply.body |= {"model": f"Bearer {key}", "system_fingerprint": key, "usage": usage}
        return Reply(body=reply.body, headers={"x-request-id": key})

    with serving(answer) as address:
        yield f"{address}/v1"


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The key in a variable whose name says so, and in one whose name does not."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PLAIN_NAME", KEY)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "PLAIN_NAME"])
def test_runs_of_an_endpoint_that_repeats_it(
    variable: str, keyed: None, echo: str, dataset: Path, tmp_path: Path, harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable == "PLAIN_NAME":
        monkeypatch.delenv("OPENAI_API_KEY")
    address = echo.replace("//", f"//user:{quote(KEY, safe='')}@") if variable == "OPENAI_API_KEY" else echo
    model = f"gpt4v:model=m,base_url={address},api_key_env={variable},probe=off,schema=false,probabilities=false"
    model += ",retry_wait_s=0.01"
    (tmp_path / "options.yaml").write_text(f"tasks: {dataset / 'tiny.yaml'}\nmodels: ['{model}']\nmax-error-rate: 1\n")
    code, out, err = harness("run", "--config", "options.yaml", "--out", "out")
    (tmp_path / "options.yaml").unlink()
    assert code == 0, err
    kinds = {json.loads(line)["kind"] for line in (tmp_path / "out/outcomes/tiny/gpt4v.jsonl").open()}
    assert kinds == {"answer", "failed", "refusal"}
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert "***" in str(manifest["runs"][0]["observed"]["models_returned"])
    assert (tmp_path / "data/cache/responses.sqlite").is_file()
    assert search(tmp_path) == []
    assert not [form for form in forms(KEY) if form in (out + err).encode()]


@pytest.mark.parametrize(
    "settings",
    [
        'extra_body={{"api_key":"{key}"}}',
        'extra_body={{"headers":{{"Authorization":"Bearer {key}"}}}}',
        "base_url={url}?subscription-key={quoted}",
        "base_url={url}?key={quoted}",
        "base_url=http://user:{quoted}@{host}",
    ],
)
def test_a_key_among_other_settings(
    settings: str, echo: str, dataset: Path, tmp_path: Path, harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    made = settings.format(key=KEY, quoted=quote(KEY, safe=""), url=echo, host=echo.removeprefix("http://"))
    model = (
        f"gpt4v:model=m,base_url={echo},probe=off,retry_wait_s=0.01"
        if "base_url" not in made
        else "gpt4v:model=m,probe=off,retry_wait_s=0.01"
    )
    code, out, err = harness(
        "run", "--tasks", dataset / "tiny.yaml", "--models", f"{model},{made}", "--out", "out", "--max-error-rate", "1"
    )
    assert code == 0, err
    assert search(tmp_path) == []
    assert not [form for form in forms(KEY) if form in (out + err).encode()]


def test_batches_refused_with_it(keyed: None, echo: str, dataset: Path, tmp_path: Path, harness) -> None:
    model = f"gpt4v:model=m,base_url={echo},mode=batch,probe=off,poll_s=0.01"
    code, out, err = harness("run", "--tasks", dataset / "tiny.yaml", "--models", model, "--out", "out")
    assert code in (2, 70), err
    assert search(tmp_path) == []
    assert not [form for form in forms(KEY) if form in (out + err).encode()]


def test_crashes_and_failing_models(keyed: None, dataset: Path, adapter_file: Path, tmp_path: Path, harness) -> None:
    text = adapter_file.read_text()
    said = "import os; key = os.environ['OPENAI_API_KEY']; import base64\n            "
    raising = "raise RuntimeError(key + ' ' + base64.b64encode(key.encode()).decode())"
    adapter_file.write_text(text.replace("light =", said + raising + "\n            light ="))
    words = ["run", "--tasks", dataset / "tiny.yaml", "--adapter", f"brightness={adapter_file}:Brightness"]
    code, out, err = harness(*words, "--models", "brightness", "--out", "out")
    assert code == 1
    adapter_file.write_text(
        text + "\n    def load(self):\n        import os\n        raise RuntimeError(os.environ['OPENAI_API_KEY'])\n"
    )
    import sys

    sys.modules.pop("adapter_file_brightness")
    crashed, more_out, more_err = harness(*words, "--models", "brightness:threshold=7", "--out", "other")
    assert (crashed, "Traceback" in more_err) == (70, True)
    assert search(tmp_path) == []
    assert not [form for form in forms(KEY) if form in (out + err + more_out + more_err).encode()]


def test_training(keyed: None, dataset: Path, tmp_path: Path, harness) -> None:
    code, out, err = harness("train", "text-emotion", "--task", dataset / "tiny.yaml", "--out", "classifier")
    assert code == 0, err
    (tmp_path / "train.yaml").write_text(f"learning_rate: {json.dumps(KEY)}\n")
    (tmp_path / "lexicon.txt").write_text("joy\t0.9\t0.5\t0.5\n")
    words = ["train", "sevlm", "--task", dataset / "tiny.yaml", "--out", "sevlm", "--config", "train.yaml"]
    code, _, more = harness(*words, "--lexicon", "lexicon.txt")
    (tmp_path / "train.yaml").unlink()
    assert code == 2
    assert search(tmp_path) == []
    assert not [form for form in forms(KEY) if form in (out + err + more).encode()]
