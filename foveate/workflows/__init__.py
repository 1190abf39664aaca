"""One file or folder a command: what puts the rooms below together."""
