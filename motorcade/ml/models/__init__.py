"""What can be learnt: one module per architecture, all behind the protocols of `base`."""
