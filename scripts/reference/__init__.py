"""Pages of the reference that are made when the site is built: they say what the code says, and can not go stale."""
