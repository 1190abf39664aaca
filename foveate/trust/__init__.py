"""What makes an answer, and a picture, trustworthy: calibration, strangers, heat maps, suspect labels."""
