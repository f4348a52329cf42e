"""What was asked for, what the store has of it, what is missing, and what that costs."""
