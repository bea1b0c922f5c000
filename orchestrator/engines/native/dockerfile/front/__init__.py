"""From the text of a Dockerfile to steps. Pure."""
