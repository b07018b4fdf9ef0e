"""What the steps share, and which knows no step."""
