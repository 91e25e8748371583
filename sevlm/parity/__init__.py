"""Does this library compute what the released code computes? `python -m sevlm.parity FIXTURE_DIR [--json]`.

A fixture is a folder that the released code wrote: an official checkpoint, inputs, and every output worth comparing.
Each part below loads it through the public interface, recomputes and compares.
"""
