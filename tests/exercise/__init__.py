"""Every method of every connector, played from its definition: what the hub really sends, beside a snapshot."""
