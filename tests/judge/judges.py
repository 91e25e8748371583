"""Judges of known behaviour behind a loopback endpoint: each has a flaw that a column must find."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter

from servers import Reply, Request, answered

CRITERIA = ("fits", "sees")
RUBRIC = """
name: numbers
version: 1
image: false
references: true
task: Judge the explanation.
criteria:
  fits: {question: "Does it fit?", anchors: {1: never, 2: hardly, 3: partly, 4: mostly, 5: wholly}}
  sees: {question: "Was it looked at?", anchors: {1: never, 2: hardly, 3: partly, 4: mostly, 5: wholly}}
preference: Which is better?
"""


def drawn(text: str, of: int) -> bool:
    """The same one text of every `of`, whoever asks."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % of == 0


def explanation(prompt: str) -> str:
    """The explanation that a prompt quotes."""
    found = re.search(r"^Explanation: (.*)$", prompt, re.M)
    return str(json.loads(found.group(1))) if found else ""


def right(prompt: str) -> bool:
    """Whether the explanation names the number that people name, as only one about the right image does."""
    (number,) = set(re.findall(r"number (\d+) is", re.search(r"^People said: (.*)$", prompt, re.M)[1]))  # type: ignore[index]
    return f"number {number} is" in explanation(prompt)


class Judge:
    """Answers chat completions with verdicts.

    Args:
        behaviour: `fair`, `lazy` (always 3), `length` (longer is better), `position` (A is better), `failing` (one of
            ten prompts gets no verdict), `changing` (one of five prompts is judged differently each time).
    """

    def __init__(self, behaviour: str, delay_s: float = 0.0) -> None:
        self.behaviour, self.delay_s = behaviour, delay_s
        self.asked: Counter[str] = Counter()

    def __call__(self, request: Request) -> Reply:
        if request.method == "GET":
            return Reply(body={"object": "list", "data": [{"id": "judge", "object": "model"}]})
        content = request.json()["messages"][-1]["content"]
        prompt = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        self.asked[prompt] += 1
        reply = answered(self.reply(prompt))
        reply.delay_s = self.delay_s
        return reply

    def reply(self, prompt: str) -> str:
        """The verdict on a prompt."""
        if "Explanation A:" in prompt:
            return json.dumps({"better": "A" if self.behaviour == "position" else "tie"})
        if self.behaviour == "failing" and drawn(prompt, 10):
            return "I would rather not say."
        score = 5 if right(prompt) else 1
        if self.behaviour == "lazy":
            score = 3
        if self.behaviour == "length":
            score = min(5, len(explanation(prompt).split()) - 10)
        if self.behaviour == "changing" and drawn(prompt, 5) and self.asked[prompt] % 2 == 0:
            score = 4 if score == 5 else 2
        return json.dumps(dict.fromkeys(CRITERIA, score))
