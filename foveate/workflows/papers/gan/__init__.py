"""The GAN test bed: small residual SNGANs for 32 pixels."""
