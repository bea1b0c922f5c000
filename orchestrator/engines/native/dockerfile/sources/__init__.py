"""What COPY, ADD and FROM take files from."""
