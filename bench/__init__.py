"""`make bench`: how fast the chat is, what a reply costs, and how that compares with bare Celery and bare flask-sock.

Everything is real and on this machine: Redis, web, workers and beat as separate processes, a model server with a set
latency and token rate, and one process as load. As the machine may be shared, things that are compared are measured
alternately within one run: read ratios, not seconds.
"""
