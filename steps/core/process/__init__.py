"""This process and its machine: signals, locks, scratch folders, waiting, messages, the code that was loaded.

May import errors alone.
"""
