"""What the workflows of .github/workflows run: scripts that call entry points and read what these left behind."""
