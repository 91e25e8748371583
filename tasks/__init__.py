"""What is measured: readers and cards per dataset, label sets, prompts, the label parser, metrics.

`READERS` names the built-in dataset readers; cards (YAML files, one task each) are found by
`harness.tasks.loading.builtin_cards`. Targets are imported only when used.
"""

from collections.abc import Mapping

READERS: Mapping[str, str] = {
    "artemis": "harness.tasks.readers.artemis:ArtemisReader",
    "sevlm-json": "harness.tasks.readers.sevlm_json:SEVLMJsonReader",
    "affectvisdial": "harness.tasks.readers.datasets:AffectVisDialReader",
    "artelingo": "harness.tasks.readers.table:KnownTableReader",
    "artemis-v2": "harness.tasks.readers.artemis_v2:ArtemisV2Reader",
    "dvisa": "harness.tasks.readers.table:KnownTableReader",
    "emer": "harness.tasks.readers.table:KnownTableReader",
    "emoset": "harness.tasks.readers.datasets:EmoSetReader",
    "feelingblue": "harness.tasks.readers.datasets:FeelingBlueReader",
    "findingemo": "harness.tasks.readers.table:KnownTableReader",
    "image-folders": "harness.tasks.readers.datasets:ImageFoldersReader",
    "oasis": "harness.tasks.readers.table:KnownTableReader",
    "socratis": "harness.tasks.readers.datasets:SocratisReader",
    "statements": "harness.tasks.readers.statements:StatementsReader",
    "table": "harness.tasks.readers.table:TableReader",
    "wikiart-emotions": "harness.tasks.readers.table:KnownTableReader",
    "jsonl": "harness.tasks.readers.jsonl:JsonlReader",
    "demo": "harness.tasks.readers.jsonl:DemoReader",
}
