"""The pure reconciler: (desired, observed, policy, now) -> Plan."""
