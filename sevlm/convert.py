"""Converts a checkpoint of the released training script: `python -m sevlm.convert OFFICIAL_DIR OUT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sevlm.checkpoint import model_from_official
from sevlm.config import SEVLMError
from sevlm.official import config_from_official, read_official

EXIT_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code (0, or 2 for a mistake the user can fix)."""
    parser = argparse.ArgumentParser(prog="python -m sevlm.convert", description=__doc__)
    parser.add_argument("official", metavar="OFFICIAL_DIR", help="holds nle_model_*, ckpt_stats_*.tar, nle_gpt2_*")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument("--name", help="which checkpoint (best-res, best-acc), where there are several")
    parser.add_argument(
        "--prompt", default=" the emotion is", help="--prompt_text of the training (default: %(default)r)"
    )
    parser.add_argument("--vad-heads", type=int, default=1, help="--VAD_En_Heads of the training (default: 1)")
    parser.add_argument("--encoder-heads", type=int, help="of a trained image encoder (default: width / 64)")
    options = parser.parse_args(arguments)
    try:
        checkpoint = read_official(options.official, options.name)
        config = config_from_official(checkpoint, options.prompt, options.vad_heads)
        model = model_from_official(checkpoint, config, options.encoder_heads)
        model.save_pretrained(options.out)
    except SEVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    print(f"{options.out}: {model.parameter_counts()['total']:,} parameters, faithful mode")
    return 0


if __name__ == "__main__":
    sys.exit(main())
