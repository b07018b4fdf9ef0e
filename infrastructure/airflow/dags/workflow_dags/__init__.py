"""DAGs that start the project's entry points: they decide the order, and touch no data."""
