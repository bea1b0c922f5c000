"""The control loop of one project: observe, reconcile, execute, tend what runs, wait for a change."""
