"""`stack`: a declarative multi-container orchestrator for Compose files."""

__version__ = "0.1.0"
