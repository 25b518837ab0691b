"""Feast plugin: stores that write Arrow batches, read in order, and join by an ASOF join.

Name them in `feature_store.yaml`; every option of the Feast store that one extends stays:

    online_store:
      type: footpath_feast.sqlite.SqliteOnlineStore     # or footpath_feast.redis.RedisOnlineStore
    offline_store:
      type: footpath_feast.asof.AsofOfflineStore
      memory_limit: 4GB                                 # of DuckDB; above it, it works on disk

What the online stores write, stock Feast reads with `type: sqlite` or `type: redis`; the offline
store reads what `type: duckdb` reads. Needs feast, numpy, pyarrow and, for Redis, redis, for the
offline store duckdb, ibis and fsspec; imports nothing else of Footpath.
"""
