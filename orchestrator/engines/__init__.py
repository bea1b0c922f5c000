"""Engines: what runs containers. Each is a package that implements :mod:`orchestrator.engines.base`."""
