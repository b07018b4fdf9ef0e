"""Launch steps and track them: the driver, one run of a step, reuse, provenance, status, retention, orphaned runs.

May import every other room. Only entry points import this one.
"""
