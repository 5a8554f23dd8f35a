"""A Redis Cluster: which node has which slot, and clients, connections and subscriptions that follow it."""
