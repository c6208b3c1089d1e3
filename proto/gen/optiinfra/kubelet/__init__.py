"""What the kubelet says on its local socket. Generated."""
