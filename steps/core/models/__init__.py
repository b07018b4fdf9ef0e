"""What is learnt from rows: split, metrics, the gate, plots and report, the scorer, registered versions and aliases.

May import tables, spark, tracking, storage and process; knows no source.
"""
