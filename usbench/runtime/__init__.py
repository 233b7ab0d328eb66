"""The process and the machine: terminal, devices, memory, and importing torchvision."""
