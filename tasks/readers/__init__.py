"""Dataset readers: one file per layout; `base.Reader` is what a new one implements."""
