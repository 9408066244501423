"""SpikingBERT: a text encoder of spikes, trained at its equilibrium."""
