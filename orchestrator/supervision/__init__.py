"""The processes of one project: supervisor and keeper, how they are begun, and how commands talk to them."""
