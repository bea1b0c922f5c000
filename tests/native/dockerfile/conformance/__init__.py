"""Dockerfiles whose images are compared, file by file and in their configuration, with what real tools make of them."""
