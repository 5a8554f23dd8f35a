"""Redis: one server, Sentinel, or a Redis Cluster.

`client.py` connects. `keys.py` has the names of all keys. `partitions.py` says which Redis holds a session.
`scripts.py` runs the Lua scripts of `sessions/scripts`, and `listeners.py` receives what is published.
"""
