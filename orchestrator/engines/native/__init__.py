"""The embedded default engine: daemonless Linux containers."""
