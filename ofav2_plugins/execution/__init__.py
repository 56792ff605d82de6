"""Running a whole plan: run folders, resume, time estimates."""
