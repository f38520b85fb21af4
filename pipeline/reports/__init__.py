"""What people look at afterwards: a run's report, pictures, leaderboards."""
