"""The HTTP server of exported models, and its pages. Its process loads no torch."""
