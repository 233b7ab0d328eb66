"""Data: tasks, readers for their layouts, the check, the download, phantoms and the prepared store."""
