import pytest
from PIL import Image

from harness.adapters import LocalAdapter
from harness.infer.local import predict
from harness.infer.run import checked
from harness.types import Answer, Failed, Item, Refusal, Unparsed, UserError

LABELS = ("joy", "fear")


class Opens(LocalAdapter):
    """Opens every picture; answers with the batch size it was asked for."""

    def fingerprint(self):
        return {}

    def predict(self, items):
        for item in items:
            item.open()
        return [Answer("joy", str(len(items))) for _ in items]


@pytest.fixture
def items(tmp_path):
    for i in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"\x89PNG not really")
    return [Item(str(i), tmp_path / f"{i}.png", LABELS, "p") for i in range(4)]


def test_one_corrupt_picture_costs_one_answer(items):
    outcomes = predict(Opens(), items)
    assert [type(o) for o in outcomes] == [Answer, Answer, Failed, Answer]
    assert outcomes[2].error_type == "ImageError"
    assert "2.png" in outcomes[2].message


def test_whole_batches_stay_whole(items):
    assert [o.explanation for o in predict(Opens(), items[:2])] == ["2", "2"]


def test_a_missing_picture_is_a_failure(tmp_path):
    (outcome,) = predict(Opens(), [Item("x", tmp_path / "gone.png", LABELS, "p")])
    assert (outcome.error_type, "no such image" in outcome.message) == ("ImageError", True)


def test_the_wrong_number_of_outcomes_is_the_adapters_mistake(items):
    class Short(Opens):
        def predict(self, items):
            return []

    with pytest.raises(UserError, match="one outcome per item: got 0 for 2"):
        predict(Short(), items[:2])


def test_a_label_outside_the_task_is_no_answer():
    outcome = checked(Answer("rage", "red"), LABELS)
    assert outcome == Unparsed("rage because red", reason="label outside the task")
    assert checked(Answer("joy", "light"), LABELS) == Answer("joy", "light")
    assert checked(Refusal("no"), LABELS) == Refusal("no")


@pytest.mark.parametrize("probs", [{"joy": 0.5}, {"joy": 0.5, "rage": 0.5}, {"joy": 1.5, "fear": -0.5}])
def test_probabilities_must_be_a_distribution(probs):
    assert isinstance(checked(Answer("joy", "x", probs), LABELS), Failed)
    assert isinstance(checked(Answer("joy", "x", {"joy": 0.25, "fear": 0.75}), LABELS), Answer)


def test_failure_messages_are_one_line_without_secrets(monkeypatch):
    monkeypatch.setenv("X_API_KEY", "very-secret-value")
    failed = checked(Failed("Error", "line one\nvery-secret-value " + "x" * 9999), LABELS)
    assert failed.message.startswith("line one *** xxx")
    assert len(failed.message) == 500
