"""Feast plugin: online stores that write Arrow batches, in Feast's own bytes, and read in order.

Name one in `feature_store.yaml`; every option of the Feast store that it extends stays:

    online_store:
      type: footpath_feast.sqlite.SqliteOnlineStore     # or footpath_feast.redis.RedisOnlineStore

What they write, stock Feast reads with `type: sqlite` or `type: redis`. Needs feast, numpy, pyarrow
and, for Redis, redis; imports nothing else of Footpath.
"""
