"""Versions of Delta tables: where they lie, what their log says, and how one more is committed.

May import spark, storage and process.
"""
