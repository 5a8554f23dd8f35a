"""`make run`: Redis with RedisJSON, a small language model, web, worker and Flower on one machine."""
