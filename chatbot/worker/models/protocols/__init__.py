"""A class for each protocol of model servers."""
