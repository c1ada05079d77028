"""deai: the vocabulary of the network, its chain adapters, SDK and command line."""

__version__ = "0.1.0"
