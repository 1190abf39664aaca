"""foveate data review and data diff: the care of the pictures before and after training."""
