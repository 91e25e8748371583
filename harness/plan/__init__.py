"""What a run will do: models, tasks, settings, identity."""
