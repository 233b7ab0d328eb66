"""The words that every room shares: what a method, a fusion, a task, a case and their settings are."""
