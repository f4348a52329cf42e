"""The documentation site: its navigation, the pages made from declarations, and the figures of the documents."""
