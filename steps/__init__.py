"""The entry points: one module, one step, run as `python -m steps <name>`."""
