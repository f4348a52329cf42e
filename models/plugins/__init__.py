"""Plug-ins from files, folders and installed packages, with one mechanism for every kind."""
