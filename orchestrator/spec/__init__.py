"""Text to Stack: the ordered passes that load a stack file."""
