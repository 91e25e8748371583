"""Dataset readers: `base.Reader` is what a new one implements, `layout.LayoutReader` what most of them extend."""
