"""Explanations judged: by a model (`rubric`, `verdicts`, `worth`), by people (`study`, `ratings`, `agreement`)."""
