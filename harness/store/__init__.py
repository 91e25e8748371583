"""The run folder and the outcomes in it."""
