"""What the control plane may ask for: one file per verb, a closed list.

Every command has an expiry and can be refused by local policy; a configuration is held until the next one, within the
same policy. No shell, no file, no reboot.
"""
