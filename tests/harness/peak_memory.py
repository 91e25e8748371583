"""How much memory a program took that a test starts."""

PEAK_KIB = "next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM:'))"
"""An expression for the program itself; getrusage would count the test process, of which it began as a copy."""

GIGABYTE_KIB = 1_000_000
