"""What people read of a run: one HTML page and one Markdown page, with plots."""
