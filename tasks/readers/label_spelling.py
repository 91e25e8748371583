"""Labels as datasets spell them -> labels as the task spells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from harness.tasks.readers.base import check_label
from harness.types import Task


class LabelSpelling:
    """Recognises a task's labels in other capitals, with surrounding blanks, and under a dataset's other names.

    Args:
        task: its `emotions` are the labels.
        aliases: the dataset's other names, in lower case -> label; those of another task's labels do no harm.
        remarks: gets the number of labels that had to be re-spelled.
    """

    def __init__(self, task: Task, remarks: Counter[str], aliases: Mapping[str, str] | None = None) -> None:
        self._task = task
        self._remarks = remarks
        known = {label.casefold(): label for label in task.emotions}
        self._known = {k: v for k, v in (aliases or {}).items() if v in task.emotions} | known

    def __call__(self, written: str, where: str) -> str:
        """The label.

        Raises:
            UserError: it is none of the task's; the message starts with `where`.
        """
        label = self._known.get(written.strip().casefold(), written)
        if label != written:
            self._remarks["labels in another spelling"] += 1
        return check_label(label, self._task, where)
