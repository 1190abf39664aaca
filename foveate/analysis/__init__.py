"""What a network looks like inside: curvature, effective rates, features, gates. Functions of a module and batches."""
