"""From files to batches: which images there are, how they are decoded, cropped, augmented and split into parts."""
