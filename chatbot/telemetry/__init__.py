"""What workers report to Redis for `/metrics` and `/readyz`: counters, and which workers are alive."""
