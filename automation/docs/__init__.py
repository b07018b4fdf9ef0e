"""The site of docs/: its generated reference, its console blocks, its build and its links."""
