"""Programs and packages from Debian, npm and Maven that tests need, installed on the first use."""
