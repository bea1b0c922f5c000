"""What ``develop.watch`` asks for: which change of which file means what. One module of it looks at files."""
