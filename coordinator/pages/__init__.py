"""The pages: templates, style and what they show; served by `coordinator.api.pages`."""
