"""Moving events between stores from the command line: places by name, progress, words for what came of it."""
