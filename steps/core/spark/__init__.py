"""Spark: a session, the server behind it, its JVM, jars and Java.

May import storage and process.
"""
