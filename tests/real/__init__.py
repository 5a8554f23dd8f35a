"""Tests with a real GPT-J on real inference servers, which `make test-models` installs and runs."""
