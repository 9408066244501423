"""Tests of the neurons."""
