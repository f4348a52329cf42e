"""The documentation site: its navigation, generated pages, and the figures of the documents."""
