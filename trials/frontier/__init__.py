"""Several points of a search's frontier: trained, exported and timed, so that people choose when they have seen the trade."""
