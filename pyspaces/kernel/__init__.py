"""The kernel's own vocabulary: numbers, system calls, /proc and namespace files.

Runs in any process. Must not know a Plan, an option or a policy.
"""
