"""Evaluation harness for affective explanation of artworks."""

__version__ = "0.1.0"
