"""Libp2p behind one narrow door: host, discovery, typed streams."""
