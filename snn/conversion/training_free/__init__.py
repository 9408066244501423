"""Conversion without training: thresholds, shifts and heights from a few unlabelled batches."""
