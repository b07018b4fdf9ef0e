"""Where rows come from: the kinds of source behind one interface, reading them, and the contract that rows must keep.

source.py is the interface, kinds.py the list of kinds, and each kind is one module (csv_files.py, delta_table.py, ...).
May import tables, spark, storage and process; knows no model and no run.
"""
