"""Manifests of models whose exact files everybody is meant to have."""
