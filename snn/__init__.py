"""Quantised networks that spike: train, convert, simulate over time, measure."""
