"""API keys of `/v1`: who has one (`keys.py`), what their requests reserve and use (`charges.py`), sums (`usage.py`)."""
