"""The options that commands share: data, budget, run and output. Standard library and typer only."""
