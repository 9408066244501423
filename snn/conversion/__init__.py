"""Conversion: rules → plan → quantise → calibrate → convert → verify."""
