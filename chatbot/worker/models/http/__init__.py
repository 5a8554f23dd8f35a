"""How model servers are asked: their addresses, and the two HTTP clients."""
