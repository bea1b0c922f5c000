"""Running one container: its bundle, the OCI runtime, the monitor, exec and logs."""
