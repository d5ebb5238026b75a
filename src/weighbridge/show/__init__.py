"""Drawing: from result types to text, SVG and HTML. Nothing here computes a number that is not on the screen."""
