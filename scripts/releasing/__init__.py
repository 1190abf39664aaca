"""What scripts/release does to files: the cut of the changelog, the list of what is in a release, its digests."""
