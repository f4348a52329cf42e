"""What is declared outside the package: files, folders and installed packages, by one mechanism for every kind."""
