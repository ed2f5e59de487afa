"""How a workload is measured: plan, engine, parsers of tools' output, interference."""
