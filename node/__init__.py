"""The provider's daemon."""
