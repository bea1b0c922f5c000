"""OCI images: references, registries, the content store."""
