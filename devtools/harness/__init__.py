"""Real processes and a client of the chat, shared by tests, tools and benchmarks."""
