"""COPY, ADD and build contexts, on real files."""
