"""Small servers for tests: a scripted eSAW, proxies that break connections, a trace collector."""
