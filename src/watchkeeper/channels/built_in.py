"""The channels that come with the product: importing this registers them."""

from watchkeeper.channels import console, email, webhook

BUILT_IN = (console, email, webhook)
