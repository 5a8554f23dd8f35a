"""What needs more than the project installs: a real GPT-J on real inference servers. Run by `make test-models`."""
