"""The weights that a network computes with, from what files hold."""
