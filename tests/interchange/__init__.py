"""Images between this project and other tools, through registries and archives."""
