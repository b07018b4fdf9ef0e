"""Files behind one interface (filesystem), in folders and in an object store (s3).

May import process.
"""
