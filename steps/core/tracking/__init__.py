"""MLflow's side: the store and whether it answers, runs, and the artifacts of runs and models.

May import storage and process.
"""
