"""This process and its machine: its start, signals, locks, scratch folders, waits, messages, the code that it loaded.

May import errors alone.
"""
