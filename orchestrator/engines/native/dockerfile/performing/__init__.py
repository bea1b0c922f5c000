"""Performing one step: the layer that COPY, ADD or RUN makes."""
