"""What would fail next: the checks of `wxgate keys doctor`, each a file or function of its own."""
