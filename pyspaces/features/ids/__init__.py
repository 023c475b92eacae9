"""Who the command is: users, groups, id maps, capabilities."""
