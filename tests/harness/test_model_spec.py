from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from harness.plan.models import ModelSpec, parse_models, typed_settings
from harness.types import UserError


class Model:
    def __init__(
        self,
        checkpoint: str,
        batch: int | None = None,
        warmth: float = 0.5,
        fast: bool = False,
        pooling: Literal["mean", "median"] = "mean",
        shade: Annotated[int, Field(ge=0, le=255)] = 0,
        device: str | None = None,
    ) -> None: ...


def test_settings_belong_to_the_model_before_them():
    specs = parse_models("sevlm,llava:checkpoint=a/b:c,dtype=bf16,gpt4v:base_url=http://127.0.0.1:8000/v1,model=m")
    assert specs == [
        ModelSpec("sevlm", "sevlm"),
        ModelSpec("llava", "llava", {"checkpoint": "a/b:c", "dtype": "bf16"}),
        ModelSpec("gpt4v", "gpt4v", {"base_url": "http://127.0.0.1:8000/v1", "model": "m"}),
    ]


def test_as_names_the_row_and_prompt_picks_the_prompt():
    (spec,) = parse_models("llava:checkpoint=X,as=big,prompt=short")
    assert spec == ModelSpec("big", "llava", {"checkpoint": "X"}, "short")
    assert parse_models("sevlm:checkpoint=a,as=s1,group=sevlm")[0] == ModelSpec(
        "s1", "sevlm", {"checkpoint": "a"}, group="sevlm"
    )


def test_a_model_is_asked_for_by_its_name(tmp_path):
    card, hub, endpoint = parse_models("qwen3-vl-8b:dtype=bf16,hf:Qwen/Some-VL:x,device=cpu,openai:gpt-5.5")
    assert (card.name, card.adapter) == ("qwen3-vl-8b", "hf")
    assert card.settings == {"checkpoint": "Qwen/Qwen3-VL-8B-Instruct", "dtype": "bf16"}
    assert hub == ModelSpec("Some-VL-x", "hf", {"checkpoint": "Qwen/Some-VL:x", "device": "cpu"})
    assert endpoint == ModelSpec("gpt-5.5", "openai", {"model": "gpt-5.5"})
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "title: Mine\nadapter: m\ncheckpoint: me/mine\nchecked: 2026-01-02\nsettings: {warmth: 2, fast: yes}\n"
    )
    (spec,) = parse_models(f"{mine}:batch=3,as=one")
    assert spec.name == "one"
    assert typed_settings(Model, spec, {"device": "cpu"}) == {
        "checkpoint": "me/mine", "batch": 3, "device": "cpu", "warmth": 2.0, "fast": True,
    }  # fmt: skip
    (spec,) = parse_models(f"{mine}:warmth=5,revision=b")
    with pytest.raises(UserError, match="no setting 'revision'"):
        typed_settings(Model, spec, {})
    mine.write_text(mine.read_text().replace("warmth", "warmness"))
    with pytest.raises(UserError, match="card 'mine' has a setting 'warmness'"):
        typed_settings(Model, parse_models(str(mine))[0], {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one model"),
        ("seed=1,sevlm", "before any model"),
        ("sevlm,sevlm", "two rows are named 'sevlm'"),
        ("a:as=x,b:as=x", "two rows are named 'x'"),
        ("sevlm:PATH", "expected name=value"),
        ("qwen3-vl-8b:PATH", "expected name=value"),
        ("no.yaml", "no such file"),
        ("llava:as=../x", "use letters"),
        ("Qwen/Qwen3-VL-8B-Instruct,dtype=bf16", "type hf:Qwen/Qwen3-VL-8B-Instruct$"),
        ("./checkpoint", "type hf:./checkpoint$"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(UserError, match=message):
        parse_models(text)


names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
values = st.text(st.characters(codec="ascii", exclude_characters=",= ", min_codepoint=33), min_size=1, max_size=20)


@given(
    st.dictionaries(
        names,
        st.dictionaries(names.filter(lambda n: n not in ("as", "prompt")), values, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read_back(models):
    text = ",".join(
        name + "".join((":" if i == 0 else ",") + f"{k}={v}" for i, (k, v) in enumerate(settings.items()))
        for name, settings in models.items()
    )
    assert [(s.adapter, dict(s.settings)) for s in parse_models(text)] == list(models.items())


def test_settings_are_converted_by_their_annotations():
    (spec,) = parse_models("m:checkpoint=7,batch=7,warmth=1,fast=yes")
    assert typed_settings(Model, spec, {"device": "cuda", "unknown": 1}) == {
        "checkpoint": "7",
        "batch": 7,
        "warmth": 1.0,
        "fast": True,
        "device": "cuda",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m:checkpont=x", "did you mean checkpoint"),
        ("m:batch=3", "needs checkpoint="),
        ("m:checkpoint=x,batch=many", "expected a whole number"),
        ("m:checkpoint=x,fast=maybe", "expected true or false"),
        ("m:checkpoint=x,warmth=nan", "expected a finite number"),
        ("m:checkpoint=x,pooling=medain", "unknown value 'medain'; did you mean median"),
        ("m:checkpoint=x,shade=256", "shade=256: expected at most 255"),
    ],
)
def test_settings_that_do_not_fit(text, message):
    (spec,) = parse_models(text)
    with pytest.raises(UserError, match=message):
        typed_settings(Model, spec, {})


def test_offered_values_never_override_the_user():
    (spec,) = parse_models("m:checkpoint=x,device=cpu")
    assert typed_settings(Model, spec, {"device": "cuda"})["device"] == "cpu"


def test_a_json_value_may_hold_commas():
    (first, second) = parse_models('gpt4v:model=m,extra_body={"a":{"b":[1,2]},"c":"x,y=1"},detail=low,majority')
    assert first.settings == {"model": "m", "extra_body": '{"a":{"b":[1,2]},"c":"x,y=1"}', "detail": "low"}
    assert second.adapter == "majority"
