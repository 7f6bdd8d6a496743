"""The chain that Kubernetes manifests go through before a cluster sees them."""
