"""The figures that can be drawn of a study by name: those of the package and those of plug-ins."""
