"""What a model meets after it was promoted, beside what it was trained on: drift, quality, and one verdict.

May import sources, models, tables, spark, tracking, storage and process.
"""
