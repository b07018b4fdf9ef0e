"""Versions of Delta tables: where they lie, what their log says, how one is committed, how files are deleted.

May import spark, storage and process.
"""
