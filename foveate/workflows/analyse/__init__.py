"""foveate analyse: what a network looks like inside, on the pictures that it is for."""
