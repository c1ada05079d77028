"""A whole network on one machine: embedded chain, launcher, faucet, demo."""
