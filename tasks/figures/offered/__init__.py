"""The figures that can be drawn of a study by name, from the package and from plug-ins."""
