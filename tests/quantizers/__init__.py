"""Tests of the quantisers."""
