"""Building the image, and installing the chart with Helm."""
