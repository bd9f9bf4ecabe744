"""Installing and running InfoPrune."""
