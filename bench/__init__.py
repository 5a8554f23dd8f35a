"""`make bench`: how fast the chat is, what a reply costs, and how that compares with the parts it is made of.

Everything is real and on this machine: Redis, web, workers and beat as processes of their own, a model server with set
latency and token rate, and one process that is the load. What is compared is measured in turns within one run, since
the machine may be shared: read ratios, not seconds.
"""
