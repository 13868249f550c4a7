"""What the core itself provides through the plugin hooks."""
