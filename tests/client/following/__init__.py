"""Proposing and checking roots by themselves."""
