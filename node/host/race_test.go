//go:build race

package host_test

func init() { hundred = 15 }
