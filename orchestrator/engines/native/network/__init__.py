"""Networks of the native engine: bridges, links, addresses, names, published ports."""
