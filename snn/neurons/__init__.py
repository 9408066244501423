"""Spiking neurons: charge in, spike counts out."""
