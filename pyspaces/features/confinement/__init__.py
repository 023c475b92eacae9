"""What the command may do, beyond namespaces: system calls (seccomp), and access (Landlock)."""
