"""The full-screen interface, on textual. Nothing here is imported before `stack ui` runs."""
