"""What is measured: readers and cards per dataset, label sets, prompts, the label parser, metrics.

`READERS` names the built-in dataset readers; cards (YAML files, one task each) are found by
`harness.tasks.loading.builtin_cards`. Targets are imported only when used.
"""

from collections.abc import Mapping

READERS: Mapping[str, str] = {
    "artemis": "harness.tasks.readers.artemis:ArtemisReader",
    "sevlm-json": "harness.tasks.readers.sevlm_json:SEVLMJsonReader",
    "jsonl": "harness.tasks.readers.jsonl:JsonlReader",
    "demo": "harness.tasks.readers.demo:DemoReader",
}
