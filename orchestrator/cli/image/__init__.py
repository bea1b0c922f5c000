"""The subcommands of ``stack image``, by what they do to images."""
