"""The PARENT side of a launch: writes the id maps, gives the word, listens and waits.

Runs in the launcher only. Must not know click. What it waits for (messages of the child, the end
of the child, signals to the launcher, the clock) it waits for at once, so that nothing can make it
hang. `watch` waits for the command of a launch.
"""
