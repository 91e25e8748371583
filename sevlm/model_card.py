"""The README.md that travels with every checkpoint, written from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping

from sevlm.config import SEVLMConfig

_HEADER = """---
library_name: sevlm
pipeline_tag: image-to-text
language: en
tags: [sevlm, affective-computing, artwork, emotion, explanation]
---
"""

_TEXT = """# SEVLM: which emotion does an artwork evoke, and why?

A small emotional vision-language model: frozen image features, a GPT-2 decoder with cross-attention, and
valence-arousal-dominance (VAD) values of the words fused into its embeddings. It answers with one sentence,
"<emotion> because <explanation>".

Architecture: SEVLM (ECCV 2024, arXiv 2403.11150), re-implemented in the `sevlm` package. {mode}

## Use

```python
from PIL import Image
from sevlm import SEVLM
{lookup_import}
model = SEVLM.from_pretrained("FOLDER")
{lookup_line}answer, = model.generate([Image.open("painting.jpg")]{lookup_argument})
print(answer.emotion, "|", answer.explanation)
```

## Size

| part | parameters |
|---|---:|
{sizes}

The frozen image encoder `{encoder}` is not part of this checkpoint.

## Input

| setting | value |
|---|---|
{settings}

## Limits

- The text is a guess about what annotators of its training data would write, not a statement about the picture or
  about the person who looks at it. Emotions before art differ between people and cultures.
- Greedy decoding of at most {tokens} tokens; captions that the model does not end itself are cut.
- The VAD lexicon is not included: load the one that the model was trained with. Another one shifts the inputs.
"""

_LOOKUP_IMPORT = """from sevlm.lexicon import load_lexicon
from sevlm.vad_lookup import VADLookup
"""
_LOOKUP_LINE = 'lookup = VADLookup.from_config(model.config, load_lexicon("LEXICON"))\n'
_SHOWN = (
    *("image_encoder", "image_size", "image_resize", "encoder_dim", "prompt", "max_length"),
    *("vad_dimensions", "vad_lookup", "lemmatizer"),
)
_SWITCHES = (
    *("keep_last_token", "vad_lookup", "lemmatizer", "causal_vad_encoder", "fusion_boundary"),
    *("max_length", "soft_emotion_labels", "fusion_identity_init", "mask_padding_in_means", "use_vad_features"),
    *("use_vad_head", "use_contrastive_head", "image_resize", "image_encoder"),
)


def model_card(config: SEVLMConfig, parameters: Mapping[str, int]) -> str:
    """The card as Markdown.

    Args:
        config: of the model.
        parameters: sizes by part with a `total`, as `SEVLM.parameter_counts` gives them.
    """
    fused = config.use_vad_features
    return _HEADER + _TEXT.format(
        mode=_mode(config),
        lookup_import=_LOOKUP_IMPORT if fused else "",
        lookup_line=_LOOKUP_LINE if fused else "",
        lookup_argument=", lookup=lookup" if fused else "",
        sizes="\n".join(f"| {part.replace('_', ' ')} | {count:,} |" for part, count in parameters.items()),
        encoder=config.image_encoder,
        settings="\n".join(f"| `{name}` | `{getattr(config, name)!r}` |" for name in _SHOWN),
        tokens=config.max_new_tokens,
    )


def _mode(config: SEVLMConfig) -> str:
    """How this model differs from the released code, by name."""
    official = SEVLMConfig.official().to_dict()
    different = [name for name in _SWITCHES if config.to_dict()[name] != official[name]]
    if not different:
        return "It computes what the released code computes."
    return f"It differs from the released code in: {', '.join(f'`{name}`' for name in different)}."
