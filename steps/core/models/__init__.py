"""What is learnt from rows, judged, registered and served.

    split, training, registration                    how a version is made of a table
    features, targets, objectives                    what is seen, what is learnt and how, for training
    evaluation, gate, plots, report                  how it is judged (the metrics are in steps/core/metrics.py)
    registry, aliases, model_files, loading          how it is named, found, checked and loaded
    scorer, predictions, inference, spark_inference  how it answers

May import tables, spark, tracking, storage and process; knows no source.
"""
