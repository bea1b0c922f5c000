"""What a full-screen interface shows and does of one project, without a screen: rows, news, output, use, operations."""
