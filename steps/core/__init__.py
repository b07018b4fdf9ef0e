"""What the steps share, in rooms. Imports go one way, from the top of this list to its end (`make check` holds that):

workflow           launching steps, one tracked run of a step, reuse, lineage, status, retention
sources, models    where rows come from; what is learnt from them, judged, registered and served
tables             versions of Delta tables
spark, tracking    the session and its server; MLflow's runs, artifacts and database
storage            files, in folders and in object stores
process            this process: signals, locks, waiting, messages
config             what users give; parameters.py has what an entry point is given
errors, mistakes   what users are told when something is wrong
metrics            how good predictions are
"""
