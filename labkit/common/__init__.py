"""Files, checks, versions and interrupts: what every other room stands on."""
