"""The science of the platform: protocol, methods, defenses, attacks, metrics. No Ray, no YAML, no run directories."""
