"""Whether an adapter, a run folder, an installation is sound."""
