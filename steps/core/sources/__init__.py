"""Where rows come from: the files or tables of a source, their headers, reading them, and the contract they must keep.

May import tables, spark, storage and process; knows no model and no run.
"""
