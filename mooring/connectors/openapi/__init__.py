"""Write a connector file from an OpenAPI description, to be read and corrected by its author."""
