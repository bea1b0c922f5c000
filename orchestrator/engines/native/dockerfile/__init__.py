"""Building images from Dockerfiles: a front end (text to steps) and a builder (steps to layers)."""
