"""Reading picture files: formats, headers, decoding."""
