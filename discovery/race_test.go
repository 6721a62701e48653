//go:build race

package discovery

func init() { Bulk = 10 }
