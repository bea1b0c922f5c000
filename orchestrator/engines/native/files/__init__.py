"""Files of containers: root file systems, volumes, and what goes in and out of them."""
