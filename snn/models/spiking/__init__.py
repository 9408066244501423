"""Parts that the spiking transformers share; signals are ``[T, B, C, H, W]``, time outermost."""
