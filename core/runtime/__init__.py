"""What every process needs: ranks, blocks of spots, outputs that are whole or absent, seeds, devices, progress."""
