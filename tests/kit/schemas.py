"""Holding data against a schema that explains its keys."""

from __future__ import annotations

# Mappings whose keys are not fixed.
FREE = {"agreement", "config", "settings", "patients", "train", "ranks", "dsc", "scores", "units"}


def same_keys(value, schema, path="board"):
    """Fail where a mapping has not just the keys that the schema explains."""
    if isinstance(schema, dict):
        assert set(value) == set(schema), path
        for key, explained in schema.items():
            if not isinstance(explained, str):
                same_keys(value[key], explained, f"{path}.{key}")
            elif not (key in FREE and isinstance(value[key], dict)):
                assert not isinstance(value[key], dict), f"{path}.{key}"
    else:
        assert isinstance(value, list), path
        assert value, f"{path}: nothing to check"
        for one in value:
            same_keys(one, schema[0], path)
