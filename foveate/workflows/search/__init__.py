"""Architecture search on pictures: a space, a sampler and a budget in; the best net that was found, trained, out."""
