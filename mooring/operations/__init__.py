"""What an operator does beside the running hub: turn keys over, back up, restore, find out what is wrong."""
