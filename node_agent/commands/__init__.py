"""What the control plane may ask for: one file per verb, a closed list.

Every command has an expiry and can be refused by local policy. No shell, no file, no reboot.
"""
