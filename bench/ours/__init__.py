"""Measured programs of ours: `python -m bench.ours.NAME SPEC.json`."""
