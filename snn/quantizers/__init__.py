"""Trainable quantisers: what an activation becomes before it can become a neuron."""
