"""What is found in a folder before anything is read in earnest: walking, checking, near duplicates."""
