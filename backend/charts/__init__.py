"""Tables in, charts and HTML strings out: the only room that knows how things look."""
