"""How units run: executors on Ray or inline, resources, progress, logs."""
