"""The `deai` command."""
