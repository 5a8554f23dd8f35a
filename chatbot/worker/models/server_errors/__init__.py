"""What failures of model servers mean: statuses, error documents and broken connections, as a `ModelError`."""
