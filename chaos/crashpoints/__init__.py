"""Recording a workload's file operations, and reopening every state of the disk that a crash may have left."""
