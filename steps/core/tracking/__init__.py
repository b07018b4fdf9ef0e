"""MLflow's side: the store (a database or a server), runs, and the artifacts of runs and models.

May import storage and process.
"""
