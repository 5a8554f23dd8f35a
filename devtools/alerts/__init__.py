"""Triggers every alert of docs/monitoring/alerts.yml on real processes under a real Prometheus."""
