"""What a release consists of: the image is built here, and Helm installs the chart."""
