"""A model version answers over REST: MLflow's scoring protocol, the alias that is followed, the record of requests.

May import models, tables, tracking, storage and process; knows no source.
"""
