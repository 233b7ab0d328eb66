# The commands of every day. They use the Python of the environment that is active.
.PHONY: install test slow check docs

install:  ## usbench with all that development needs, pinned
	pip install -c constraints.txt -e '.[dev]'

test:  ## the tests that take minutes
	pytest

slow:  ## those that take longer
	pytest -m slow

check:  ## style, format, types, and which room imports which
	ruff check .
	ruff format --check .
	mypy
	lint-imports

docs:  ## the documentation, in site/
	mkdocs build --strict
