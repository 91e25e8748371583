import base64

import pytest

from harness.redact import HIDDEN, is_secret_name, keep_secret, redact, redact_known, redact_text


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcdefgh1234",
        "Authorization: Bearer abc.def-ghi",
        "https://user:s3cr3tpass@host/v1",
        "gpt4v:api_key=abcd1234,model=m",
        'extra_body={"api_key":"abcd1234"}',
        r'{"extra_body": "{\"x-api-key\": \"abcd1234\"}"}',
        '{"headers": {"Authorization": "Bearer abcd1234"}}',
        "https://host/v1?subscription-key=abcd1234&x=1",
    ],
)
def test_secrets_disappear(text):
    shown = redact_text(text)
    assert HIDDEN in shown
    for secret in ("abcdefgh1234", "abc.def-ghi", "s3cr3tpass", "abcd1234"):
        assert secret not in shown


def test_values_of_secret_environment_variables_disappear(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_API_KEY", "correct-horse-battery")
    monkeypatch.setenv("AZURE_OPENAI_KEY", "staple-of-the-house")
    assert redact_text("they got staple-of-the-house") == f"they got {HIDDEN}"
    monkeypatch.setenv("HARMLESS", "plain-value")
    assert redact_text("said correct-horse-battery and plain-value") == f"said {HIDDEN} and plain-value"


def test_names_that_are_secret_and_names_that_only_sound_so():
    assert all(map(is_secret_name, ("api_key", "OPENAI_API_KEY", "token", "client-secret", "password")))
    assert all(map(is_secret_name, ("AWS_SECRET_ACCESS_KEY", "AZURE_OPENAI_KEY")))
    assert not any(map(is_secret_name, ("key", "sort_key", "MONKEY")))
    assert not any(map(is_secret_name, ("max_tokens", "prompt_tokens", "completion_tokens", "tokenizer", "monkey")))


def test_nested_values():
    value = {"settings": {"api_key": "x", "max_tokens": 5, "list": ["sk-abcdefgh1234"]}}
    assert redact(value) == {"settings": {"api_key": HIDDEN, "max_tokens": 5, "list": [HIDDEN]}}


@pytest.mark.parametrize(
    "quoted", ["pass/word+9", "pass%2Fword%2B9", "pass%2fword%2b9", "%70%61%73%73%2F%77%6F%72%64%2B%39"]
)
def test_url_quoted_forms_of_a_known_secret_disappear(quoted, monkeypatch):
    monkeypatch.setenv("MY_SERVICE_API_KEY", "pass/word+9")
    for form in (quoted, quoted.replace("%2F", "%2f").replace("%6F", "%6f")):
        assert redact_text(f"at {form} it stood") == f"at {HIDDEN} it stood"


@pytest.mark.parametrize("form", ["706173732f776f72642b39", "706173732F776F72642B39"])
def test_a_known_secret_in_hexadecimal_disappears(form, monkeypatch):
    monkeypatch.setenv("MY_SERVICE_API_KEY", "pass/word+9")
    assert redact_text(f"at {form} it stood") == f"at {HIDDEN} it stood"


@pytest.mark.parametrize(
    "form",
    [
        r"\u0070\u0061\u0073\u0073\u002f\u0077\u006f\u0072\u0064\u002b\u0039",
        r"pass\u002Fword+9",
        r"\x70\x61ss/word\x2b9",
        r"pass\\u002fword+9",
        r"pass\/word+9",
        r"pass\\/word+9",
        r"p\\\\u0061ss\\\\/word+9",
        "pass%252Fword%252b9",
        "pass%25252Fword%25252B9",
        "pass&#47;word&#x2B;9",
        "PASS/WORD+9",
        "Pass%2fword+9",
    ],
)
def test_a_known_secret_that_is_escaped_or_in_the_other_case_disappears(form, monkeypatch):
    monkeypatch.setenv("MY_SERVICE_API_KEY", "pass/word+9")
    assert redact_text(f"at {form} it stood") == f"at {HIDDEN} it stood"


@pytest.mark.parametrize("loop", ["\\" * 200_000 + "\\u", "%25" * 100_000, "&#0" * 100_000, "&#" + "0" * 200_000])
def test_a_model_that_repeats_an_escape_stops_nothing(loop, monkeypatch):
    monkeypatch.setenv("MY_SERVICE_API_KEY", "pass/word+9")
    assert redact_text(loop) == loop


def test_half_of_a_key_that_was_used_disappears():
    key = "q7Vw2Xc9Lm4Tz8Rb1Nf6Kd3Hs5Jg0Py"
    keep_secret(key)
    for start in range(len(key)):
        for end in range(start + len(key) // 2, len(key) + 1):
            assert redact_known(f"no key {key[start:end]}.") == f"no key {HIDDEN}."
    for encoded in (base64.b64encode(key.encode()).decode(), key.encode().hex()):
        assert redact_known(f"no key {encoded[: len(encoded) * 2 // 3]}") == f"no key {HIDDEN}"
    assert redact_known(f"it ends in {key[-6:]}") == f"it ends in {key[-6:]}"
    assert redact_known(f"{key[:20]} and {key[12:]}, {key}") == f"{HIDDEN} and {HIDDEN}, {HIDDEN}"


@pytest.mark.parametrize("other", ["first-0123456789xyz", "0123456789xyz-second", "first-0123456789", "0123456789xyz"])
def test_keys_with_a_common_part_all_disappear(other, monkeypatch):
    key = "made-up-0123456789xyz"
    monkeypatch.setattr("harness.redact._told", set())
    monkeypatch.setenv("OPENAI_API_KEY", key)
    keep_secret(other)
    assert redact_text(f"sent {key}, or {other}") == f"sent {HIDDEN}, or {HIDDEN}"
    keep_secret(key)
    assert redact_text(f"sent {key}, or {other}") == f"sent {HIDDEN}, or {HIDDEN}"


def test_half_of_a_variable_is_an_ordinary_word(monkeypatch):
    monkeypatch.setenv("SOME_CREDENTIALS", "/home/somebody/keys/service.json")
    assert redact_text("/home/somebody/keys/other.txt") == "/home/somebody/keys/other.txt"
