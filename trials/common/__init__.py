"""What every command is made of: its command line, groups of options, run directories, devices and processes."""
