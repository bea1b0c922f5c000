"""Probes: health and readiness checks."""
