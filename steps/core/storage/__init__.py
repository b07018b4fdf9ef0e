"""Files behind one interface (files), in folders (local_files) or in an object store (s3_files): filesystem chooses.

May import process.
"""
