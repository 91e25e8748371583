"""What is measured: readers and cards per dataset, label sets, prompts, the label parser, metrics.

`READERS` names the built-in dataset readers; cards (YAML files, one task each) are found by
`harness.tasks.loading.builtin_cards`. Targets are imported only when used.
"""

from collections.abc import Mapping

READERS: Mapping[str, str] = {
    "artemis": "harness.tasks.readers.artemis:ArtemisReader",
    "sevlm-json": "harness.tasks.readers.sevlm_json:SEVLMJsonReader",
    "affectvisdial": "harness.tasks.readers.affectvisdial:AffectVisDialReader",
    "artelingo": "harness.tasks.readers.artelingo:ArtELingoReader",
    "artemis-v2": "harness.tasks.readers.artemis_v2:ArtemisV2Reader",
    "dvisa": "harness.tasks.readers.dvisa:DViSAReader",
    "emer": "harness.tasks.readers.emer:EMERReader",
    "emoset": "harness.tasks.readers.emoset:EmoSetReader",
    "feelingblue": "harness.tasks.readers.feelingblue:FeelingBlueReader",
    "findingemo": "harness.tasks.readers.findingemo:FindingEmoReader",
    "image-folders": "harness.tasks.readers.image_folders:ImageFoldersReader",
    "oasis": "harness.tasks.readers.oasis:OASISReader",
    "socratis": "harness.tasks.readers.socratis:SocratisReader",
    "table": "harness.tasks.readers.table:TableReader",
    "wikiart-emotions": "harness.tasks.readers.wikiart_emotions:WikiArtEmotionsReader",
    "jsonl": "harness.tasks.readers.jsonl:JsonlReader",
    "demo": "harness.tasks.readers.demo:DemoReader",
}
