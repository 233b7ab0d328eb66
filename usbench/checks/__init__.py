"""Does a method keep the contract? Checks on synthetic slices, the same for everybody's methods.

`usbench.checks.suite.check` runs them; docs/check.md says what each is for.
"""
