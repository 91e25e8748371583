"""These tests need torchvision, which most families' processors ask for: `make families` has an environment with it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.append(str(Path(__file__).resolve().parents[1] / "adapters"))
collect_ignore = [] if importlib.util.find_spec("torchvision") else ["test_families.py"]
