"""JSON as scripts: a page opened from disk may not fetch JSON, but it may load a sibling script.

A script is one call, `window.harnessData({...});`. Model text is untrusted: whatever could end a script element, open
a comment or break a line of JavaScript is written as an escape, and lone surrogates as U+FFFD.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_ESCAPED = re.compile("[<>&\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def whole_text(text: str) -> str:
    """`text` with lone surrogates (broken model output) replaced, so that it can be encoded."""
    return _SURROGATE.sub("\ufffd", text)


def script(function: str, payload: Any) -> str:
    """One script that hands `payload` to `window.<function>`."""
    data = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    escaped = _ESCAPED.sub(lambda match: _ESCAPES[match.group()], whole_text(data))
    return f"window.{function}({escaped});\n"
