"""What `tests/soak` is made of."""
