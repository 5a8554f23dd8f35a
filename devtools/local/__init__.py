"""`make run`: Redis with RedisJSON, a small language model, web, worker, beat and Flower on one machine."""
